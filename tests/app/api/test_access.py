"""Who is let in, by every way that leads to a route, and what the others are told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app.api import access
from app.api.access import OPEN_ROUTES, Access
from app.errors import RateLimited, Unauthorized
from app.keys import KeyRing, hashed, line_of
from app.main import create_app
from app.observability import configure_logging
from app.settings import Settings
from tests.app.conftest import HeldEngine, Served, png, publish, serving, until

KEY = "dmt_of-the-web"
KEYS = f"{line_of('web', hashed(KEY.encode()))},{line_of('mobile', hashed(b'other'))}"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
Headers = list[tuple[bytes, bytes]]


@asynccontextmanager
async def _guarded(root: Path, engine: Any = HeldEngine, **settings: Any) -> AsyncIterator[Served]:
    publish(root)
    async with serving(root, engine, api_keys=KEYS, **settings) as served:
        if isinstance(served.engine, HeldEngine):
            served.engine.let()
        yield served


def _scope(path: str = "/predict", method: str = "POST", headers: Headers | None = None, port: int = 8080) -> Any:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "server": ("127.0.0.1", port),
        "headers": headers or [],
        "state": {},
    }


def _told(response: httpx.Response) -> str:
    """The message of a 401 in the one shape."""
    assert response.status_code == 401
    error = response.json()["error"]
    assert list(error) == ["code", "message", "request_id"]
    assert (error["code"], error["request_id"]) == ("unauthorized", response.headers["x-request-id"])
    assert response.headers["www-authenticate"].startswith('Bearer realm="demitasse"')
    return str(error["message"])


async def test_no_route_method_or_unknown_path_answers_without_a_key_but_health(tmp_path: Path) -> None:
    async with _guarded(tmp_path) as served:
        documented = {
            path.replace("{name}", "cups").replace("{version}", "1") for path in served.app.openapi()["paths"]
        }
        others = {
            "/docs",
            "/openapi.json",
            "/docs/oauth2-redirect",
            "/web",
            "/nope",
            "/v2/models/cups/infer",
            "/metrics",
        }
        tricks = {"/health/live/", "//health/live", "/health/../predict", "/Health/live", "/health/live;x", "*", ""}
        for path in (documented | others | tricks) - OPEN_ROUTES:
            for method in METHODS:
                response = served.gate(_scope(path, method))
                assert (response.status_code, b"expected an API key" in response.body) == (401, True)
        for path in (documented | others) - OPEN_ROUTES:
            for method in METHODS:
                answered = await served.http.request(method, path)
                assert answered.status_code == 401, (method, path)
        for path in OPEN_ROUTES:
            assert (await served.http.get(path)).status_code == 200
            assert served.gate(_scope(path, "GET")) is None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", KEY.encode())],
        [(b"x-api-key", f" {KEY}\t ".encode())],  # space around a value is no part of it
        [(b"authorization", f"Bearer {KEY}".encode())],
        [(b"authorization", f"bEARER   {KEY} ".encode())],
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", KEY.encode())],  # for a proxy
        [(b"authorization", b"Bearer of-the-proxy"), (b"x-api-key", KEY.encode())],
        [(b"authorization", b"Basic dTpw"), (b"authorization", f"Bearer {KEY}".encode())],
    ],
)
async def test_key_is_taken_from_either_header(headers: Headers, tmp_path: Path) -> None:
    async with _guarded(tmp_path) as served:
        assert served.gate(_scope(headers=headers)) is None
        assert (await served.http.post("/predict", content=png(1), headers=headers)).status_code == 200
        assert (await served.http.get("/models", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], "none came"),
        ([(b"x-api-key", b"")], "none came"),
        ([(b"x-api-key", b" \t ")], "none came"),
        ([(b"authorization", b"")], "none came"),
        ([(b"authorization", b"Bearer")], "none came"),
        ([(b"authorization", b"Bearer ")], "none came"),
        ([(b"authorization", KEY.encode())], "none came"),
        ([(b"authorization", f"Basic {KEY}".encode())], "none came"),
        ([(b"authorization", f"Bearer{KEY}".encode())], "none came"),
        ([(b"x-api-key", KEY.encode())] * 2, "2 came"),
        ([(b"x-api-key", KEY.encode()), (b"x-api-key", b"")], "2 came"),
        ([(b"authorization", f"Bearer {KEY}".encode())] * 3, "3 came"),
        ([(b"x-api-key", b"nobodys")], "not known"),
        ([(b"x-api-key", b"web")], "not known"),
        ([(b"x-api-key", hashed(KEY.encode()).hex().encode())], "not known"),
        ([(b"x-api-key", f"{KEY}x".encode())], "not known"),
        ([(b"x-api-key", f"{KEY},{KEY}".encode())], "not known"),
        ([(b"x-api-key", f"Bearer {KEY}".encode())], "not known"),
        ([(b"x-api-key", KEY.encode() + b"\xff\x00")], "not known"),
        ([(b"x-api-key", "schlüssel".encode())], "not known"),
        ([(b"x-api-key", b"x" * 2**20)], "not known"),
        ([(b"x-api-key", b"nobodys"), (b"authorization", f"Bearer {KEY}".encode())], "not known"),
    ],
)
async def test_anything_else_answers_401_and_is_not_repeated(headers: Headers, message: str, tmp_path: Path) -> None:
    async with _guarded(tmp_path) as served:
        response = await served.http.post("/predict", content=png(1), headers=headers)
        told = _told(response)
        gated = served.gate(_scope(headers=headers))
    assert told.endswith(message)
    assert json.loads(gated.body)["error"]["message"] == told
    assert ('error="invalid_token"' in response.headers["www-authenticate"]) is (message == "not known")
    if message == "not known":
        assert told == "the API key that came is not known"


async def test_gate_and_application_give_the_same_401(tmp_path: Path) -> None:
    async with _guarded(tmp_path) as served:
        gated = served.gate(_scope(headers=[(b"x-request-id", b"abc")]))
        theirs = await served.http.post("/predict", headers={"x-request-id": "abc"})
    assert bytes(gated.body) == theirs.content
    assert dict(gated.raw_headers) == {key.lower(): value for key, value in theirs.headers.raw}


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/models/cups/infer", "/v2/nope", "/v1/models/cups:predict", "/v1/models/nope"]
)
async def test_protocols_refuse_in_their_own_form(path: str, tmp_path: Path) -> None:
    """Their clients put the error's text together with others, and fail on an object."""
    publish(tmp_path)
    key = [(b"x-api-key", KEY.encode())]
    async with serving(tmp_path, api_keys=KEYS, rate_limit_per_minute=1) as served:
        stranger, gated = await served.http.post(path), served.gate(_scope(path))
        assert served.gate(_scope("/models", "GET", key)) is None
        limited = served.gate(_scope(path, headers=key))
    assert (stranger.status_code, gated.status_code, limited.status_code) == (401, 401, 429)
    assert stranger.content == gated.body
    for body in (gated.body, limited.body):
        ((name, text),) = json.loads(body).items()
        assert name == "error"
        assert text.startswith(("expected an API key", "the key 'web' may make 1 requests a minute"))
    assert stranger.headers["www-authenticate"] == gated.headers["www-authenticate"]
    assert 0 < int(limited.headers["retry-after"]) <= 60


async def test_body_of_a_stranger_is_not_read(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("it was asked for")
        yield b""

    async with _guarded(tmp_path) as served:
        _told(await served.http.post("/predict", content=body()))
        assert served.app.state.bodies.used_bytes == 0


async def test_stranger_is_never_told_of_the_queue(tmp_path: Path) -> None:
    publish(tmp_path)
    headers = [(b"x-api-key", KEY.encode())]
    async with serving(tmp_path, HeldEngine, api_keys=KEYS, queue_size=1) as served:
        running = asyncio.create_task(served.http.post("/predict", content=png(1), headers=headers))
        await until(lambda: served.engine.sizes)
        assert served.gate(_scope(headers=headers)).status_code == 429
        assert served.gate(_scope()).status_code == 401
        assert (await served.http.post("/predict", content=png(1))).status_code == 401
        served.app.state.draining = True
        assert served.gate(_scope()).status_code == 401
        served.engine.let()
        assert (await running).status_code == 200


async def test_key_that_is_taken_back_is_refused_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{line_of('web', hashed(KEY.encode()))}\n")
    async with serving(tmp_path, api_keys_file=path, reload_interval_s=0.1) as served:
        headers = [(b"x-api-key", KEY.encode())]
        assert served.gate(_scope(headers=headers)) is None
        path.write_text("# none\n")
        await until(lambda: served.gate(_scope(headers=headers)) is not None)
        _told(await served.http.get("/models", headers=headers))


async def test_file_that_is_broken_from_the_start_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("broken")
    async with serving(tmp_path, api_keys_file=tmp_path / "keys") as served:
        _told(await served.http.get("/models", headers={"x-api-key": "broken"}))


async def test_setting_that_wants_keys_lets_nobody_in_without(tmp_path: Path) -> None:
    async with serving(tmp_path, require_auth=True) as served:
        _told(await served.http.get("/models"))


async def test_without_keys_anybody_may_call_and_keys_are_not_looked_at(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, rate_limit_per_minute=1) as served:
        for headers in ({}, {"x-api-key": "nobodys"}) * 2:
            assert (await served.http.get("/models", headers=headers)).status_code == 200


async def test_names_of_keys_are_logged_and_counted_and_keys_never(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug", "json")
    async with _guarded(tmp_path) as served:
        await served.http.post("/predict", content=png(1), headers={"x-api-key": KEY})
        await served.http.get("/models", headers={"authorization": "Bearer other"})
        for _ in range(3):
            served.gate(_scope(headers=[(b"x-api-key", b"nobodys-key")]))
        metrics = (await served.http.get("/metrics", headers={"x-api-key": KEY})).text
    out = capsys.readouterr().out
    for secret in (KEY, "Bearer", "nobodys-key", hashed(KEY.encode()).hex()):
        assert secret not in out + metrics
    lines = [json.loads(line) for line in out.splitlines()]
    named = [(line["path"], line.get("key")) for line in lines if line.get("status") == 200]
    assert named == [("/predict", "web"), ("/models", "mobile"), ("/metrics", "web")]
    assert all(len(line["request_id"]) == 32 for line in lines if line.get("status") == 401)
    assert [line["message"] for line in lines if line["level"] == "warning"] == [
        "no valid API key: 1 requests refused since the last such line"
    ]
    assert 'demitasse_key_requests_total{key="web",status="200"} 1.0' in metrics
    assert 'demitasse_requests_total{method="POST",route="unmatched",status="401"} 3.0' in metrics


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the rate, and of the library that keeps it."""
    import limits.storage.memory

    clock = [1000.0]
    fake = SimpleNamespace(time=lambda: clock[0], perf_counter=lambda: clock[0])
    monkeypatch.setattr(access, "time", fake)
    monkeypatch.setattr(limits.storage.memory, "time", fake)
    return clock


def _rated(per_minute: int) -> Access:
    return Access(KeyRing({"web": hashed(b"web"), "mobile": hashed(b"mobile")}, None), per_minute)


def _wait_s(guard: Access, key: bytes) -> int | None:
    """How long the key is to wait; None where it may go on."""
    try:
        guard.check(_scope(headers=[(b"x-api-key", key)]))
    except RateLimited as error:
        assert error.headers == {"Retry-After": str(error.retry_after_s)}
        return error.retry_after_s
    return None


def test_each_key_may_make_so_many_requests_in_any_minute(now: list[float]) -> None:
    guard = _rated(2)
    assert _wait_s(guard, b"web") is None
    now[0] += 20.5
    assert _wait_s(guard, b"web") is None
    assert _wait_s(guard, b"web") == 40
    assert _wait_s(guard, b"mobile") is None
    now[0] += 39.4
    assert _wait_s(guard, b"web") == 1
    now[0] += 0.2
    assert _wait_s(guard, b"web") is None  # the first one is a minute old, the refused ones did not count
    assert _wait_s(guard, b"web") == 21


def test_stranger_uses_up_nobodys_rate(now: list[float]) -> None:
    guard = _rated(1)
    for _ in range(3):
        with pytest.raises(Unauthorized):
            guard.check(_scope(headers=[(b"x-api-key", b"nobodys")]))
    assert _wait_s(guard, b"web") is None


def test_request_that_is_looked_at_twice_counts_once(now: list[float]) -> None:
    guard = _rated(1)
    scope = _scope(headers=[(b"x-api-key", b"web")])
    guard.check(scope)
    guard.check(scope)
    assert scope["state"] == {"key": "web"}


async def test_rate_that_is_used_up_answers_429_in_the_one_shape(now: list[float], tmp_path: Path) -> None:
    async with _guarded(tmp_path, rate_limit_per_minute=1) as served:
        headers = {"x-api-key": KEY}
        assert (await served.http.post("/predict", content=png(1), headers=headers)).status_code == 200
        refused = await served.http.get("/models", headers=headers)
        assert (await served.http.get("/health/live", headers=headers)).status_code == 200
        counted = served.app.state.metrics.render().decode()
    assert 'demitasse_key_requests_total{key="web",status="429"} 1.0' in counted
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.json()["error"] == {
        "code": "rate_limited",
        "message": "the key 'web' may make 1 requests a minute",
        "request_id": refused.headers["x-request-id"],
        "retry_after_s": 60,
    }


@pytest.mark.parametrize("keys", [None, KEYS])
async def test_metrics_with_a_port_of_their_own_are_there_and_nowhere_else(keys: str | None, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, api_keys=keys, metrics_port=9100) as served:

        async def get(path: str, port: int) -> int:
            return (await served.http.get(f"http://demitasse:{port}{path}", headers={"x-api-key": KEY})).status_code

        assert [await get(path, 8080) for path in ("/metrics", "/health/ready", "/models")] == [404, 200, 200]
        assert [await get(path, 9100) for path in ("/metrics", "/health/ready", "/models")] == [200, 200, 404]
        refused = await served.http.post("http://demitasse:9100/predict", content=png(1))
        assert refused.json()["error"]["message"] == "no route /predict on this port; metrics have one of their own"
        assert (await served.http.get("http://demitasse:9100/metrics")).status_code == 200  # without a key
        # What it says of itself does not matter: the port is that of the connection
        assert served.gate(_scope("/metrics", "GET", [(b"host", b"demitasse:9100")])).status_code == 404
        assert served.gate(_scope("/metrics", "GET", port=9100)) is None


def _document(**settings: Any) -> dict[str, Any]:
    return create_app(Settings(**settings), load_engine=lambda *_: pytest.fail("nothing is loaded here")).openapi()


def test_openapi_document_says_how_keys_are_sent_and_where_they_are_needed() -> None:
    document = _document(api_keys=KEYS)
    assert document["components"]["securitySchemes"] == {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    assert document["security"] == [{"ApiKey": []}, {"Bearer": []}]
    operations = {path: operation for path, found in document["paths"].items() for operation in found.values()}
    assert {path for path, operation in operations.items() if operation.get("security") == []} == OPEN_ROUTES
    for status in ("401", "429", "default"):
        assert not any(status in operations[path]["responses"] for path in OPEN_ROUTES if not path.startswith("/v2"))
    others = {path: set(found["responses"]) for path, found in operations.items() if path not in OPEN_ROUTES}
    assert {path for path, found in others.items() if not ({"401", "429"} <= found or "default" in found)} == set()
    assert {path for path, found in others.items() if "401" in found and "default" in found} == set()
    refused = operations["/predict"]["responses"]["401"]["content"]["application/json"]["schema"]
    assert refused == {"$ref": "#/components/schemas/ErrorBody"}
    assert "ErrorBody" in document["components"]["schemas"]


def test_openapi_document_of_a_service_without_keys_leaves_them_to_the_client() -> None:
    document = _document()
    assert document["security"] == [{"ApiKey": []}, {"Bearer": []}, {}]
    assert not any("401" in found["responses"] for path in document["paths"].values() for found in path.values())
    assert "api_key" not in json.dumps(document)
