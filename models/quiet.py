"""Keeps TensorFlow's start-up chatter off the user's terminal, and OpenVINO's reports off the net, for both sides.

TensorFlow logs to file descriptor 2 before it reads `TF_CPP_MIN_LOG_LEVEL`, so that variable alone does not help.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = re.compile(rb"^(WARNING: All log messages before absl|[IWE]\d{4} |\[[\d:, -]+ [IWE] \d+ \d+\] )")


@contextmanager
def without_native_chatter() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, then pass on all but glog-style lines, and Ray's.

    If the block raises, everything is passed on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        keep_all = True
        try:
            yield
            keep_all = False
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            lines = [line for line in held if keep_all or not _CHATTER.match(line)]
            os.write(2, b"".join(lines))


def without_openvino_telemetry() -> None:
    """To be called before OpenVINO is imported, which would otherwise report each import to its makers.

    Python raises ImportError for a module that is None here, and OpenVINO does without.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it fails


@contextmanager
def without_openvino_conversion() -> Iterator[None]:
    """Around an import of OpenVINO that is to convert nothing: its converter takes a third of the time.

    As above; `openvino.convert_model` is missing in this process from then on, `openvino.tools.ovc` can be imported.
    """
    converter = "openvino.tools.ovc"
    if converter in sys.modules:
        yield
        return
    sys.modules[converter] = None  # type: ignore[assignment]  # as above
    try:
        yield
    finally:
        del sys.modules[converter]
