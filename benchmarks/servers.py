"""The services that are compared: started on a free port, waited for, watched, stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
PEER_ENVIRONMENTS = ROOT / ".venv-bench"

_PATIENCE_S = 180.0


@dataclass(frozen=True)
class Kind:
    """How a service is started. `{port}` in its command is the port that it gets."""

    name: str
    command: tuple[str, ...]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)
    model_query: bool = False  # whether the model is chosen by the request rather than at the start
    engine: str = ""  # of `limit.py`, with which this one is compared
    packages: tuple[str, ...] = ()  # whose versions a result states

    @property
    def installed(self) -> bool:
        return Path(self.command[0]).exists()

    def versions(self) -> dict[str, str]:
        """Of its packages, in its own environment."""
        script = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        command = [self.command[0], "-c", script, *self.packages]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return dict(zip(self.packages, found, strict=True))


def demitasse(name: str = "demitasse", **environment: str) -> Kind:
    command = (sys.executable, "-m", "app")
    environment.setdefault("PYTHONPATH", str(ROOT))
    engine = environment.setdefault("ENGINE", "openvino")
    environment.setdefault("LOG_LEVEL", "warning")  # a line for each request is not written by the peers either
    return Kind(name, command, "/health/ready", environment, model_query=True, engine=engine)


def peers(processes: int = 1) -> list[Kind]:
    """The usual FastAPI, LitServe and BentoML, whether or not their environments are there.

    With `processes`, LitServe once more, with so many workers.
    """

    def python(peer: str) -> str:
        return str(PEER_ENVIRONMENTS / peer / "bin" / "python")

    litserve = Kind(
        "LitServe",
        (python("litserve_tensorflow"), str(PEERS / "litserve_tensorflow.py")),
        "/health",
        packages=("litserve", "pillow", "tensorflow"),
    )
    several = replace(litserve, name=f"LitServe, {processes} workers", environment={"WORKERS": str(processes)})
    return [
        Kind(
            "usual FastAPI",
            (python("fastapi_tensorflow"), str(PEERS / "fastapi_tensorflow.py")),
            "/health",
            packages=("fastapi", "uvicorn", "pillow", "tensorflow"),
        ),
        litserve,
        *([several] if processes > 1 else []),
        Kind(
            "BentoML",
            (
                *(python("bentoml_tensorflow"), "-m", "bentoml", "serve", "bentoml_tensorflow:Classifier"),
                *("--working-dir", str(PEERS), "--port", "{port}", "--host", "127.0.0.1"),
            ),
            "/readyz",
            packages=("bentoml", "pillow", "tensorflow"),
        ),
    ]


@dataclass
class Running:
    kind: Kind
    port: int
    process: subprocess.Popen[bytes]
    ready_after_s: float = 0.0

    def resident_mib(self) -> float:
        """Of the process and all its children; pages that they share count once."""
        return sum(_proportional_kib(pid) for pid in _family(self.process.pid)) / 1024

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def clean_environment() -> dict[str, str]:
    """No setting of the shell decides what is measured; nor does a `.env`, since nothing runs in its folder."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")
    return {
        **{name: value for name, value in os.environ.items() if name in kept},
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "1",  # as we do, or some processors would run the peers' TensorFlow at half its speed
        "CUDA_VISIBLE_DEVICES": "-1",
    }


@contextmanager
def running(
    kind: Kind, model_folder: Path, log: Path, cores: frozenset[int] | None = None, **environment: str
) -> Iterator[Running]:
    """A service that answers, until the block ends. Its output goes to the file `log`; `cores` are all that it gets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [part.format(port=port) for part in kind.command]
    if cores is not None:
        command = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
    variables = {
        **clean_environment(),
        "PORT": str(port),
        "MODEL_FOLDER": str(model_folder),
        "BENTOML_DO_NOT_TRACK": "True",
        **kind.environment,
        **environment,
    }
    started = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=log.parent, env=variables, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    service = Running(kind, port, process)
    try:
        _wait(service, log)
        service.ready_after_s = time.perf_counter() - started
        yield service
    finally:
        _stop(process)


def _wait(service: Running, log: Path) -> None:
    url = f"http://127.0.0.1:{service.port}{service.kind.health}"
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.005)
    raise RuntimeError(f"{service.kind.name} did not get ready; its log:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The whole session: peers leave children behind otherwise."""
    with suppress(subprocess.TimeoutExpired, ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [pid, *(grandchild for child in found for grandchild in _family(child))]


def _proportional_kib(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
