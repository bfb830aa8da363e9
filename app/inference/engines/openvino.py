"""OpenVINO on a CPU: the version's IR, or its SavedModel where it has none."""

from app.inference.engines.base import EngineError, Images, Probabilities
from app.settings import PrecisionChoice
from models.manifest import Manifest, Precision
from models.quiet import without_openvino_telemetry
from models.repository import VersionFolder

without_openvino_telemetry()
import openvino as ov  # noqa: E402

_IR = "openvino/model.xml"
_OUTPUT = "probabilities"


class OpenVinoEngine:
    name = "openvino"
    device = "CPU"

    def __init__(self, folder: VersionFolder, manifest: Manifest, precision: Precision) -> None:
        self.precision = precision
        core = ov.Core()
        path = folder.path / _IR if _IR in manifest.files else folder.path
        try:
            model = _pruned(core.read_model(path))
            compiled = core.compile_model(model, self.device, {"INFERENCE_PRECISION_HINT": precision})
        except RuntimeError as error:
            raise EngineError(f"{folder.path}: OpenVINO can't run it: {error}") from error
        self._request = compiled.create_infer_request()

    def infer(self, images: Images) -> Probabilities:
        found: Probabilities = self._request.infer({0: images}, share_inputs=True)[0]
        return found


def resolve_precision(precision: PrecisionChoice) -> Precision:
    """`auto` is bf16 where the CPU computes in it natively. Raises `EngineError` for bf16 where it does not."""
    native = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not native:
        raise EngineError("PRECISION=bf16 needs a processor that computes in bfloat16; use f32 or auto")
    if precision == "auto":
        return "bf16" if native else "f32"
    return precision


def _pruned(model: ov.Model) -> ov.Model:
    """Only what the probabilities need: the IR has outputs for explanations too."""
    result = model.output(_OUTPUT).get_node()
    return ov.Model([result], model.get_parameters(), model.get_friendly_name())
