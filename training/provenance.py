"""Where a version comes from: commit, libraries, device, and what a run was given."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.manifest import DatasetRecord, Pretrained, Provenance

_LIBRARIES = ("tensorflow", "keras", "numpy", "pillow", "openvino", "scipy", "scikit-learn")
_ROOT = Path(__file__).parent.parent


def record(
    recipe: str,
    *,
    settings: dict[str, object],
    seed: int | None,
    dataset: DatasetRecord | None,
    pretrained: Pretrained | None,
    wall_seconds: float,
) -> Provenance:
    """What a manifest says of a run of this code on this machine. `settings` are the recipe's values."""
    return Provenance(
        recipe=recipe,
        settings=settings,
        git_commit=git_commit(),
        seed=seed,
        dataset=dataset,
        pretrained=pretrained,
        libraries=libraries(),
        device=device(),
        wall_seconds=round(wall_seconds, 1),
    )


def git_commit() -> str | None:
    """The commit of the code that runs, marked `-dirty` where code differs from it; None outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", "models/*.py", "training", "pyproject.toml", "constraints.txt")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def libraries() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a result."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device() -> str:
    """The GPUs that TensorFlow sees, or the processor."""
    import tensorflow as tf

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join(gpus) or f"CPU, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
