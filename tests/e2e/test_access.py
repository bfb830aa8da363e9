"""Keys, ports and traces of the real process, with what only a socket can send."""

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.service import PATIENCE_S, PICTURES, ROOT, Service, free_port

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def _keys(*arguments: str, file: Path) -> str:
    """What `python -m app keys` prints."""
    command = [sys.executable, "-m", "app", "keys", *arguments, "--file", str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _answers(service: Service, *requests: bytes) -> list[bytes]:
    """What comes over one connection for each of these, sent as they are; the last one asks for its end."""
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        for request in requests:
            connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received.split(b"HTTP/1.1 ")[1:]


@contextmanager
def _collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """The address of a collector of OpenTelemetry, and what has come to it."""
    came: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            came.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nobody reads them."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_keys_are_changed_while_it_serves_and_strangers_get_401_by_every_way(
    start: Callable[..., Service], small: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    web = _keys("new", "web", file=file)
    picture = (PICTURES / "espresso_cup.jpg").read_bytes()
    with _collector() as (endpoint, came):
        service = start(
            MODEL_REPOSITORY=small,
            API_KEYS_FILE=str(file),
            RELOAD_INTERVAL_S="0.1",
            LOG_LEVEL="debug",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        ).wait_until_ready()

        def status(key: str | None) -> int:
            headers = {} if key is None else {"x-api-key": key}
            return service.http.post("/predict", content=picture, headers=headers).status_code

        assert (status(None), status("nobodys"), status(web)) == (401, 401, 200)
        trace = {"authorization": f"bearer {web}", "traceparent": f"00-{TRACE}-{SPAN}-01"}
        assert service.http.post("/predict", content=picture, headers=trace).status_code == 200

        # What no client library sends, over one connection: it stays open, and in step
        head = b" /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"
        answers = _answers(
            service,
            b"HEAD" + head + b"\r\n",
            b"DELETE" + head + b"x-api-key: " + b"x" * 60_000 + b"\r\n\r\n",
            b"POST" + head + b"x-api-key: \xff\xfe\x80\r\n\r\n",
            b"POST" + head + b"X-API-KEY:\r\n\r\n",
            b"OPTIONS" + head + b"origin: https://x.example\r\naccess-control-request-method: POST\r\n\r\n",
            b"GET /%68ealth/live HTTP/1.1\r\nhost: x\r\n\r\n",  # the same route, in other letters
            b"GET /health/live%2f..%2f..%2fmodels HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST /predict HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n"
            b"connection: close\r\n\r\n",
        )
        assert [answer.split(b" ")[0] for answer in answers] == [b"401"] * 5 + [b"200"] + [b"401"] * 2
        assert b"\r\n\r\n{" not in answers[0]  # the body of an answer to HEAD is not sent

        mobile = _keys("new", "mobile", file=file)
        service.wait_for(lambda: status(mobile) == 200, "the new key to be taken")
        _keys("remove", "web", file=file)
        service.wait_for(lambda: status(web) == 401, "the old key to be refused")
        file.write_text("mobile:")  # half-written
        service.wait_for(lambda: "the API keys stay as they were, mobile" in service.messages(), "a complaint")
        assert status(mobile) == 200
        file.unlink()
        assert status(mobile) == 200
        assert service.stop() == 0

    log = service.log_path.read_text()
    assert not any(secret in log for secret in (web, mobile, "nobodys"))
    lines = [line for line in service.log() if line.get("status") == 200 and line.get("path") == "/predict"]
    assert {line["key"] for line in lines} == {"web", "mobile"}
    assert TRACE in {line.get("trace_id") for line in lines}
    spans = [span for each in came for one in each.resource_spans for scope in one.scope_spans for span in scope.spans]
    ours = [span for span in spans if span.trace_id == bytes.fromhex(TRACE)]
    assert [span.name for span in ours] == ["decode", "queue", "inference", "rank", "POST /predict"]
    assert ours[-1].parent_span_id == bytes.fromhex(SPAN)


def test_workers_share_the_port_of_the_metrics_and_refuse_the_same_callers(
    start: Callable[..., Service], small: str
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "app", "keys", "new", "web"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("API_KEYS")}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    key, line = made.split()
    service = start(MODEL_REPOSITORY=small, WORKERS="2", METRICS_PORT=str(port), API_KEYS=line)
    service.wait_until_ready()
    service.wait_for(lambda: service.messages().count("is serving") == 2, "both workers to serve")
    headers = {"x-api-key": key}

    def get(path: str, of_port: int, **sent: str) -> httpx.Response:
        return httpx.get(
            f"http://127.0.0.1:{of_port}{path}", headers=sent, timeout=PATIENCE_S
        )  # any worker may take it

    for _ in range(8):
        assert get("/models", service.port).status_code == 401
        assert httpx.get(f"{service.http.base_url}/models", headers=headers).status_code == 200
        assert httpx.get(f"{service.http.base_url}/metrics", headers=headers).status_code == 404
        assert get("/models", port).status_code == 404
    assert 'demitasse_key_requests_total{key="web",status="200"} 8.0' in get("/metrics", port).text
    assert get("/health/ready", port).status_code == 200
    assert service.stop() == 0
    with pytest.raises(httpx.ConnectError):
        get("/metrics", port)


def test_service_that_must_have_keys_does_not_start_without(start: Callable[..., Service], small: str) -> None:
    service = start(MODEL_REPOSITORY=small, REQUIRE_AUTH="true")
    assert service.process.wait(PATIENCE_S) == 2
    assert service.log_path.read_text().startswith("error: REQUIRE_AUTH is set, and there is no key; ")
    with pytest.raises(json.JSONDecodeError):  # it is an error for people, not a line of the log
        service.log()
