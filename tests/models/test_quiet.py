"""Native chatter is held back, all else arrives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.quiet import without_native_chatter

CHATTER = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1742988.123456 12345 port.cc:153] oneDNN custom operations are on.\n"
    b"W0000 00:00:1742988.123456 12345 gpu_device.cc:2344] Cannot dlopen some GPU libraries.\n"
    b"E0000 00:00:1742988.123456 12345 cuda_dnn.cc:8579] Unable to register cuDNN factory\n"
    b"[2026-01-02 03:04:05,678 I 5163 5163] logging.cc:303: Set ray log level from environment variable\n"
)


@pytest.fixture(autouse=True)
def _restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # which the block would set for the whole process


def test_chatter_is_dropped_and_the_rest_passed_on_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    with without_native_chatter():
        os.write(2, b"before\n" + CHATTER + b"Error: no memory\nI am no log line\nF0000 fatal\n")
        assert capfd.readouterr().err == ""  # held until the end of the block
    assert capfd.readouterr().err == "before\nError: no memory\nI am no log line\nF0000 fatal\n"


def test_everything_is_passed_on_if_the_block_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), without_native_chatter():
        os.write(2, CHATTER + b"the last words")
        raise KeyError
    assert capfd.readouterr().err.encode() == CHATTER + b"the last words"


def test_standard_error_works_again_after_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    with without_native_chatter():
        pass
    os.write(2, CHATTER[:20])
    assert capfd.readouterr().err.encode() == CHATTER[:20]


def test_no_file_descriptor_is_left_open() -> None:
    def lowest_free() -> int:
        descriptor = os.dup(0)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    for _ in range(3):
        with without_native_chatter():
            pass
    assert lowest_free() == before


def test_standard_output_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with without_native_chatter():
        os.write(1, CHATTER)
        assert capfd.readouterr().out.encode() == CHATTER


def test_a_log_level_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with without_native_chatter():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with without_native_chatter():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_python_and_the_children_of_a_real_process_are_held_too() -> None:
    code = (
        "import os, subprocess, sys\n"
        "from models.quiet import without_native_chatter\n"
        "with without_native_chatter():\n"
        "    sys.stderr.write('W1234 of python\\nkept of python\\n')\n"
        "    sys.stderr.flush()\n"
        "    subprocess.run(['sh', '-c', 'echo I1234 of a child >&2; echo kept of a child >&2'], check=True)\n"
        "sys.stderr.write('after\\n')\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stderr == "kept of python\nkept of a child\nafter\n"


def test_openvino_is_imported_without_its_telemetry() -> None:
    code = (
        "import sys; from models.quiet import without_openvino_telemetry; without_openvino_telemetry();"
        "import openvino; print(openvino.__name__, sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino", "None"]


def test_openvino_without_conversion_is_imported_sooner_and_conversion_can_be_had_later() -> None:
    script = """
import sys
from models.quiet import without_openvino_conversion, without_openvino_telemetry
without_openvino_telemetry()
with without_openvino_conversion():
    import openvino
assert openvino.Core().available_devices
assert "openvino.tools.ovc" not in sys.modules
from openvino.tools.ovc import convert_model
"""
    subprocess.run([sys.executable, "-c", script], check=True)
