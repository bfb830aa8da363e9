"""Which engine serves here, and how a version is loaded on it. An engine's library is imported when it is chosen."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from app.cores import available_cores
from app.inference.engines.base import Engine, EngineError
from app.settings import EngineChoice, PrecisionChoice, Settings
from models.manifest import Manifest, Precision
from models.repository import VersionFolder

EngineName = Literal["openvino", "tensorflow"]
EngineFactory = Callable[[VersionFolder, Manifest], Engine]

_GPU_DEVICES = (Path("/dev/nvidia0"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


class Chosen(NamedTuple):
    """`give_up` ends what was begun before it was asked for."""

    load_engine: EngineFactory
    lanes: int
    give_up: Callable[[], None] = lambda: None


def chosen(settings: Settings) -> Chosen:
    """What loads versions in one process of these settings. Raises `EngineError` where the engine can't be had."""
    engine, cores = choose(settings.engine), max(1, available_cores() // settings.workers)
    return Chosen(factory(engine, settings.precision, cores), lanes(engine, cores))


def choose(choice: EngineChoice) -> EngineName:
    """The engine for this machine. Raises `EngineError` where none is installed."""
    installed = {name for name in ("openvino", "tensorflow") if find_spec(name) is not None}
    if choice != "auto":
        if choice not in installed:
            raise EngineError(f"ENGINE={choice}, but {choice} is not installed; install the extra '{choice}'")
        return choice
    if "tensorflow" in installed and _has_gpu():
        return "tensorflow"
    for name in ("openvino", "tensorflow"):
        if name in installed:
            return name
    raise EngineError("no engine is installed; install the extra 'openvino', 'tensorflow' or 'gpu'")


def lanes(name: EngineName, threads: int) -> int:
    """How many batches that engine computes side by side. Imports its library."""
    if name == "tensorflow":
        return 1
    from app.inference.engines import openvino

    return openvino.lanes(threads)


def resolve_precision(name: EngineName, choice: PrecisionChoice) -> Precision:
    """What that engine computes in. Raises `EngineError` for a precision that it lacks."""
    if name == "tensorflow":  # whose import takes seconds, and is not needed for this
        if choice == "bf16":
            raise EngineError("PRECISION=bf16 needs the OpenVINO engine; TensorFlow computes in f32")
        return "f32"  # in which the SavedModel was written
    from app.inference.engines import openvino

    return openvino.resolve_precision(choice)


def factory(name: EngineName, precision: PrecisionChoice, threads: int) -> EngineFactory:
    """Loads versions on that engine, which computes in so many threads on a CPU.

    Imports its library; raises `EngineError` for a precision that it lacks.
    """
    resolved = resolve_precision(name, precision)
    if name == "tensorflow":
        from app.inference.engines import tensorflow

        tensorflow.set_threads(threads)
        return partial(tensorflow.TensorFlowEngine, precision=resolved)
    from app.inference.engines import openvino

    return partial(openvino.OpenVinoEngine, precision=resolved, threads=threads)


def _has_gpu() -> bool:
    """Asks TensorFlow, whose import takes seconds, only where there is a driver to find a GPU with."""
    if not any(path.exists() for path in _GPU_DEVICES):
        return False
    from app.inference.engines.tensorflow import sees_gpu

    return sees_gpu()
