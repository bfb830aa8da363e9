"""One minute version, trained on made-up pictures and published once for all tests that look at a version."""

from types import SimpleNamespace

import numpy as np
import pytest

from models.manifest import InputSpec, Label
from models.repository import ModelRepository
from training import checkpoint, run
from training.recipe import Recipe
from training.splits import Dataset, Split


def _quarters(n: int, seed: int) -> Split:
    """Noise uint8 [n, 16, 16, 3] in which one of the four quarters is brighter, much or little: that is the class."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 4, n)
    images = random.integers(0, 120, (n, 16, 16, 3), dtype=np.uint8)
    for image, quarter in zip(images, classes, strict=True):
        image[8 * (quarter // 2) :, 8 * (quarter % 2) :][:8, :8] += random.integers(10, 110, dtype=np.uint8)
    return Split(images, classes)


@pytest.fixture(scope="session")
def minute(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What went into a run and what came out of it."""
    dataset = Dataset(
        name="quarters",
        source="quarters, made up",
        labels=tuple(
            Label(name=f"{where} quarter", id=f"q{i}") for i, where in enumerate(("1st", "2nd", "3rd", "4th"))
        ),
        train=_quarters(1300, seed=1),
        test=_quarters(150, seed=2),
    )
    recipe = Recipe(
        model="minute",
        description="Which quarter is bright",
        dataset="mnist",
        architecture="traut",
        input=InputSpec(height=16, width=16),
        epochs=1,
        batch_size=16,
        learning_rate=1e-3,
        validation_size=20,
        calibration_size=130,
        decision_size=400,
        seed=3,
    )
    root = tmp_path_factory.mktemp("minute")
    repository, state = ModelRepository(root / "models"), checkpoint.new(root / "runs", "minute-recipe", recipe)
    folder, manifest = run.run("minute-recipe", recipe, dataset, repository, state)
    return SimpleNamespace(
        dataset=dataset, recipe=recipe, repository=repository, folder=folder, manifest=manifest, checkpoint=state
    )
