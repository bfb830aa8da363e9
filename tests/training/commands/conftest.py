"""Made-up digits, and the mnist recipe run on them as people run it, once for all tests that look at the result."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]


def _blobs(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bright spots on black in one of ten places, uint8 [n, 28, 28]."""
    classes = random.integers(0, 10, n).astype(np.uint8)
    images = random.integers(0, 60, (n, 28, 28), dtype=np.uint8)
    for image, place in zip(images, classes, strict=True):
        image[4 + 12 * (place // 5) :, 1 + 5 * (place % 5) :][:8, :5] += 150
    return images, classes


def write_mnist(path: Path, n: int) -> Path:
    random = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = _blobs(n, random), _blobs(200, random)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    line = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The mnist recipe, run as people run it, on 6,400 made-up digits of which it holds out 6,000."""
    folder = tmp_path_factory.mktemp("mnist")
    data = write_mnist(folder / "mnist.npz", 6400)
    models, runs = folder / "models", folder / "runs"
    done = command("--models", models, "run", "mnist", "--data", data, "--epochs=1", "--seed=5", "--runs", runs)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(data=data, models=models, runs=runs, done=done)
