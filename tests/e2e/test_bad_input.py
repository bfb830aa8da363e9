"""Whatever comes in: the right status, the one error shape, and a good request is answered right after."""

import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.app.conftest import png
from tests.e2e.service import Service

Send = Callable[[httpx.Client, bytes], httpx.Response]


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def _upload(data: bytes, query: str = "", field: str = "file") -> Send:
    return lambda client, _: client.post(f"/predict{query}", files={field: ("photo.jpg", data)})


def _good(query: str) -> Send:
    return lambda client, photo: client.post(f"/predict{query}", files={"file": photo})


CASES: dict[str, tuple[Send, int, str, str]] = {
    "empty body": (lambda c, _: c.post("/predict"), 400, "unreadable_image", "0 bytes"),
    "empty file": (_upload(b""), 400, "unreadable_image", "0 bytes"),
    "text called .jpg": (_upload(b"I am no picture"), 415, "unsupported_media_type", "I am no pict"),
    "huge PNG header": (_upload(_png_header(60_000, 60_000)), 413, "too_many_pixels", "64,000,000 pixels"),
    "JPEG cut in the middle": (
        lambda c, photo: c.post("/predict", files={"file": photo[: len(photo) // 2]}),
        400,
        "unreadable_image",
        "cut short",
    ),
    "top_k of 0": (_good("?top_k=0"), 422, "invalid_parameter", "top_k"),
    "top_k of -1": (_good("?top_k=-1"), 422, "invalid_parameter", "top_k"),
    "top_k of 10**9": (_good("?top_k=1000000000"), 422, "invalid_parameter", "1000 classes"),
    "top_k of x": (_good("?top_k=x"), 422, "invalid_parameter", "'x'"),
    "top_k over the classes": (_good("?model=cifar10&top_k=11"), 422, "invalid_parameter", "10 classes"),
    "unknown model": (_good("?model=nope"), 404, "unknown_model", "'nope'"),
    "unknown version": (_good("?version=99"), 404, "unknown_version", "99"),
    "version of 0": (_good("?version=0"), 422, "invalid_parameter", "version"),
    "version of x": (_good("?version=x"), 422, "invalid_parameter", "version"),
    "wrong multipart field": (_upload(b"x", field="image"), 422, "invalid_parameter", "'image'"),
    "two files": (
        lambda c, photo: c.post("/predict", files=[("file", photo), ("file", photo)]),
        422,
        "invalid_parameter",
        "/predict/batch",
    ),
    "multipart without boundary": (
        lambda c, photo: c.post("/predict", content=photo, headers={"content-type": "multipart/form-data"}),
        400,
        "malformed_body",
        "boundary",
    ),
    "form-encoded body": (
        lambda c, photo: c.post(
            "/predict", content=photo, headers={"content-type": "application/x-www-form-urlencoded"}
        ),
        415,
        "unsupported_media_type",
        "x-www-form-urlencoded",
    ),
    "JSON that is none": (
        lambda c, _: c.post("/predict", content=b"{", headers={"content-type": "application/json"}),
        400,
        "malformed_body",
        "JSON",
    ),
    "JSON without image": (lambda c, _: c.post("/predict", json={"picture": ""}), 422, "invalid_parameter", "image"),
    "bad base64": (lambda c, _: c.post("/predict", json={"image": "§"}), 400, "malformed_body", "base64"),
    "batch without files": (
        lambda c, photo: c.post("/predict/batch", files={"file": photo}),
        422,
        "invalid_parameter",
        "'files'",
    ),
    "unknown route": (lambda c, _: c.get("/nope"), 404, "not_found", "/nope"),
    "wrong method": (lambda c, _: c.get("/predict"), 405, "method_not_allowed", "POST"),
    "unknown model in the catalogue": (lambda c, _: c.get("/models/nope"), 404, "unknown_model", "nope"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_the_one_error_shape_and_harms_nothing(shipped: Service, espresso: bytes, case: str) -> None:
    send, status, code, words = CASES[case]
    answer = send(shipped.http, espresso)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["code"] == code
    assert words in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    good = shipped.http.post("/predict?top_k=1", files={"file": espresso})
    assert good.json()["predictions"][0]["label"] == "espresso"


def _zeros(total: int) -> Iterator[bytes]:
    piece = bytes(2**20)
    for _ in range(total // len(piece)):
        yield piece


@pytest.mark.parametrize("announced", [True, False], ids=["with Content-Length", "chunked"])
def test_upload_of_200_mb_is_refused_with_memory_flat(shipped: Service, espresso: bytes, announced: bool) -> None:
    shipped.http.post("/predict", files={"file": espresso})
    before = shipped.resident_kib()
    headers = {"content-type": "image/png"} | ({"content-length": str(200 * 2**20)} if announced else {})
    answer = shipped.http.post("/predict", content=_zeros(200 * 2**20), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert shipped.resident_kib() - before < 64 * 1024
    assert shipped.http.post("/predict", files={"file": espresso}).status_code == 200


def test_full_queue_answers_429_at_once_and_recovers(start, imagenet: str, espresso: bytes) -> None:
    service = start(MODEL_REPOSITORY=imagenet, QUEUE_SIZE="1").wait_until_ready()
    with ThreadPoolExecutor(16) as callers:
        posts = [callers.submit(service.http.post, "/predict", files={"file": espresso}) for _ in range(64)]
        answers = [post.result() for post in posts]
    assert {answer.status_code for answer in answers} == {200, 429}
    for refused in (answer for answer in answers if answer.status_code == 429):
        assert refused.json()["error"]["code"] == "queue_full"
        assert refused.json()["error"]["retry_after_s"] == int(refused.headers["retry-after"]) >= 1
    assert service.http.post("/predict", files={"file": espresso}).status_code == 200


def test_slow_uploads_keep_nobody_else_from_an_answer_and_those_beyond_the_memory_for_bodies_get_429(
    start, small: str, espresso: bytes
) -> None:
    half = len(espresso) // 2
    service = start(MODEL_REPOSITORY=small, QUEUE_SIZE="2", MAX_BODIES_BYTES=str(half)).wait_until_ready()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(20):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            slow.sendall(head + b"x")
        in_progress = "demitasse_requests_in_progress 21.0"
        service.wait_for(lambda: in_progress in service.http.get("/metrics").text, "the slow ones")
        assert service.http.post("/predict", content=png(7)).status_code == 200
    answer = service.http.post("/predict", content=espresso, headers={"content-type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) == 1


def test_deadline_answers_504(start, imagenet: str, espresso: bytes) -> None:
    service = start(MODEL_REPOSITORY=imagenet, REQUEST_TIMEOUT_MS="1").wait_until_ready()
    answer = service.http.post("/predict", files={"file": espresso})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_passed"
