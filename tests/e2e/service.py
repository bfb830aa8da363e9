"""The real process over real HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "tests" / "pictures"
PATIENCE_S = 60.0  # against hanging for ever; no promise about speed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """`python -m app` on a free port of the loopback interface, with its JSON log kept in a file.

    `port_in` is the variable that names the port, `arguments` follow the module's name. `port` is that of a service
    before this one, whose place it takes.
    """

    def __init__(
        self,
        log: Path,
        module: str = "app",
        *,
        arguments: Sequence[str] = (),
        port_in: str = "PORT",
        port: int | None = None,
        **environment: str,
    ) -> None:
        self.port = free_port() if port is None else port
        self.log_path = log
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={**kept, port_in: str(self.port), "LOG_FORMAT": "json", **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.address = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.address, timeout=PATIENCE_S)

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if found := condition():
                    return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"waited in vain for {what}; exit code {self.process.poll()}; log:\n{self.log_path.read_text()}")

    def wait_until_ready(self) -> "Service":
        self.wait_for(lambda: self.http.get("/health/ready").status_code == 200, "readiness")
        return self

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def messages(self) -> str:
        return "\n".join(line["message"] for line in self.log())

    def live(self) -> dict[str, list[int]]:
        models = self.http.get("/models").json()["models"]
        return {model["name"]: [version["version"] for version in model["versions"]] for model in models}

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def stop(self, sig: int = signal.SIGTERM) -> int:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
