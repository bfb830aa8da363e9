"""OpenVINO on a CPU: the version's IR, or its SavedModel where it has none."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from app.inference.engines.base import (
    CLASS_IDS,
    EMBEDDING,
    HEATMAP,
    IMAGES,
    PROBABILITIES,
    ClassIds,
    EngineError,
    Explanation,
    Images,
    Infer,
    Probabilities,
    Unexplained,
)
from app.settings import PrecisionChoice
from models.manifest import Manifest, Precision
from models.quiet import without_openvino_conversion, without_openvino_telemetry
from models.repository import VersionFolder

without_openvino_telemetry()
with without_openvino_conversion():
    import openvino as ov

# What OpenVINO knows of numpy is set up by the first array that it takes and gives. Two threads that do so at once wait
# for each other for ever: one inside of that setting up for Python's lock, which the other one holds
_ = ov.Tensor(np.zeros(1, np.float32), shared_memory=True).data

_IR = "openvino/model.xml"
_MOST_LANES = 4
# On a lane. Of a smaller network, smaller batches cost more than lanes gain
_WORTH_LANES_S = 0.003
# A still smaller one answers faster than requests can be read, and threads that wait for each other hold up the reading
_WORTH_THREADS_S = 0.001


class OpenVinoEngine:
    name = "openvino"
    device = "CPU"

    def __init__(self, folder: VersionFolder, manifest: Manifest, precision: Precision, threads: int = 1) -> None:
        """`threads` compute a single image together, and batches in `lanes(threads)` groups."""
        self.precision = precision
        self._path = folder.path / _IR if _IR in manifest.files else folder.path
        self._threads = threads
        with self._in_our_words("run it"):
            self.infer, self.lanes = self._fastest(self._read(), manifest)
        self._complete = not self.lanes

    def load_rest(self, check: Callable[[Infer], None]) -> None:
        """Until then an image alone is computed by the threads of one lane."""
        if self._complete:
            return
        with self._in_our_words("run it"):
            (together,) = self._compiled(self._read(), self._threads, 1)
            check(together)
        self.infer, self._complete = together, True

    def load_explanations(self) -> None:
        _ = self._explaining

    def explain(self, images: Images, class_ids: ClassIds) -> Explanation:
        request = self._explaining
        known = {name for port in request.model_inputs for name in port.get_names()}
        found = request.infer({IMAGES: images, CLASS_IDS: class_ids} if CLASS_IDS in known else {IMAGES: images})
        outputs = {name: array for port, array in found.items() for name in port.get_names()}
        return Explanation(outputs[PROBABILITIES], outputs[EMBEDDING], outputs.get(HEATMAP))

    @cached_property
    def _explaining(self) -> ov.InferRequest:
        """The model is read again: `infer` keeps only what it needs itself."""
        with self._in_our_words("explain with it"):
            model = ov.Core().read_model(self._path)
            names = {name for port in model.outputs for name in port.get_names()}
            if EMBEDDING not in names:
                raise Unexplained
            model = _pruned(model, *(name for name in (PROBABILITIES, EMBEDDING, HEATMAP) if name in names))
            # As one of the lanes, beside which others compute
            (request,) = self._requests(model, max(1, self._threads // max(1, len(self.lanes))), 1)
            return request

    def _fastest(self, model: ov.Model, manifest: Manifest) -> tuple[Infer, tuple[Infer, ...]]:
        """`infer`, and the lanes where the network is large enough to gain by them: one image is timed.

        With lanes, all threads together come later: compiling is most of what a start takes.
        """
        if self._threads == 1:
            (alone,) = self._compiled(model, 1, 1)
            return alone, ()
        streams = lanes(self._threads)
        spare, *side_by_side = self._compiled(model, self._threads, streams, streams + 1)
        if _seconds(spare, manifest, _WORTH_LANES_S) >= _WORTH_LANES_S:
            return spare, tuple(side_by_side)
        (alone,) = self._compiled(model, 1, 1)
        if _seconds(alone, manifest, _WORTH_THREADS_S) < _WORTH_THREADS_S:
            return alone, ()
        (together,) = self._compiled(model, self._threads, 1)
        return together, ()

    def _read(self) -> ov.Model:
        return _pruned(ov.Core().read_model(self._path), PROBABILITIES)

    @contextmanager
    def _in_our_words(self, purpose: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise EngineError(f"{self._path}: OpenVINO can't {purpose}: {error}") from error

    def _compiled(self, model: ov.Model, threads: int, streams: int, count: int = 1) -> tuple[Infer, ...]:
        return tuple(_infer(request) for request in self._requests(model, threads, streams, count))

    def _requests(self, model: ov.Model, threads: int, streams: int, count: int = 1) -> tuple[ov.InferRequest, ...]:
        """So many requests of a network of which `streams` are computed side by side, with `threads` in all."""
        configuration = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # Several processes, or containers of one machine, would all be pinned to its first cores
            "ENABLE_CPU_PINNING": False,
        }
        compiled = ov.Core().compile_model(model, self.device, configuration)
        return tuple(compiled.create_infer_request() for _ in range(count))


def lanes(threads: int) -> int:
    """How many batches are computed side by side: one on each core, or four that share more cores."""
    return min(threads, _MOST_LANES)


def resolve_precision(precision: PrecisionChoice) -> Precision:
    """`auto` is bf16 where the CPU computes in it natively. Raises `EngineError` for bf16 where it does not."""
    native = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not native:
        raise EngineError("PRECISION=bf16 needs a processor that computes in bfloat16; use f32 or auto")
    if precision == "auto":
        return "bf16" if native else "f32"
    return precision


def _seconds(infer: Infer, manifest: Manifest, limit_s: float) -> float:
    """What one image takes, at best of three after the first, which is slow; of fewer once it is below the limit.

    One that takes longer than that may have been held up, as beside traffic.
    """
    image = np.zeros((1, manifest.input.height, manifest.input.width, 3), np.uint8)
    infer(image)
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        infer(image)
        best = min(best, time.perf_counter() - started)
        if best < limit_s:
            break
    return best


def _infer(request: ov.InferRequest) -> Infer:
    def infer(images: Images) -> Probabilities:
        found: Probabilities = request.infer({0: images}, share_inputs=True)[0]
        return found

    return infer


def _pruned(model: ov.Model, *outputs: str) -> ov.Model:
    """Only what these outputs need."""
    results = [model.output(name).get_node() for name in outputs]
    parameters = model.get_parameters()
    if HEATMAP not in outputs:  # which alone depends on the class
        parameters = [parameter for parameter in parameters if CLASS_IDS not in parameter.output(0).get_names()]
    return ov.Model(results, parameters, model.get_friendly_name())
