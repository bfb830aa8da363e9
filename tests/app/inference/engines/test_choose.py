"""Which engine serves on which machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.inference import engines
from app.inference.engines.base import EngineError

ROOT = Path(__file__).parents[4]


def _machine(monkeypatch: pytest.MonkeyPatch, installed: set[str], gpu: bool) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(engines, "_has_gpu", lambda: gpu)


@pytest.mark.parametrize(
    ("installed", "gpu", "chosen"),
    [
        ({"openvino", "tensorflow"}, True, "tensorflow"),
        ({"openvino", "tensorflow"}, False, "openvino"),
        ({"tensorflow"}, False, "tensorflow"),
        ({"openvino"}, True, "openvino"),
    ],
)
def test_auto_takes_tensorflow_on_a_gpu_and_else_openvino(
    installed: set[str], gpu: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, installed, gpu)
    assert engines.choose("auto") == chosen


def test_engine_asked_for_by_name_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, {"openvino", "tensorflow"}, gpu=True)
    assert (engines.choose("openvino"), engines.choose("tensorflow")) == ("openvino", "tensorflow")


def test_engine_that_is_not_installed_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, set(), gpu=False)
    with pytest.raises(EngineError, match=r"^ENGINE=openvino, but openvino is not installed; install the extra"):
        engines.choose("openvino")
    with pytest.raises(EngineError, match=r"^no engine is installed; install the extra 'openvino', 'tensorflow' or"):
        engines.choose("auto")


def test_without_a_gpu_driver_tensorflow_is_not_even_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from app.inference import engines;"
        f"engines._GPU_DEVICES = (Path({str(tmp_path / 'nvidia0')!r}),);"
        "assert engines.choose('auto') == 'openvino';"
        "assert engines.factory('openvino', 'auto', 1);"
        "print('tensorflow' in sys.modules, 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
