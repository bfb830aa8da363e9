"""The page at / and its files: how they are served, and that they keep to their policy."""

import re
from pathlib import Path

import httpx
import pytest

from app.api import web
from app.keys import hashed, line_of
from tests.app.conftest import Served, png, publish, serving

KEYS = line_of("web", hashed(b"k"))
MOST_BYTES = 100 * 1024


def _texts() -> dict[str, str]:
    return {path: file.read_text(encoding="utf-8") for path, file in web.FILES.items() if file.suffix != ".webp"}


async def test_page_and_its_files_are_served_with_their_types(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path, file in web.FILES.items():
            answer = await served.http.get(path)
            assert (answer.status_code, answer.content) == (200, file.read_bytes())
            assert answer.headers["content-type"] == {
                ".css": "text/css; charset=utf-8",
                ".html": "text/html; charset=utf-8",
                ".js": "text/javascript; charset=utf-8",
                ".svg": "image/svg+xml",
                ".webp": "image/webp",
            }[file.suffix]  # fmt: skip


async def test_every_file_of_the_folder_is_served_and_all_are_small(tmp_path: Path) -> None:
    folder = web.FILES["/"].parent
    assert {path for path in folder.rglob("*") if path.is_file()} == set(web.FILES.values())
    assert sum(file.stat().st_size for file in web.FILES.values()) < MOST_BYTES


async def test_policy_lets_in_nothing_but_the_service_s_own_files(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path in web.FILES:
            headers = (await served.http.get(path)).headers
            policy = headers["content-security-policy"]
            assert policy == "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_page_needs_nothing_that_its_policy_forbids() -> None:
    for path, text in _texts().items():
        outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", text)) - {"http://www.w3.org/2000/svg"}
        assert outside == set(), path
        assert not re.search(
            r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b|\bdata:|blob:", text
        ), path
    page = _texts()["/"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page)


def test_page_and_modules_name_only_files_that_are_there() -> None:
    texts = _texts()
    named = set(re.findall(r"(?:src|href)=\"(web/[^\"]+)\"", texts["/"]))
    named |= {f"web/samples/{name}" for name in re.findall(r"data-sample=\"([^\"]+)\"", texts["/"])}
    for text in (text for path, text in texts.items() if path.endswith(".js")):
        named |= {f"web/{name}" for name in re.findall(r"from \"\./([^\"]+)\"", text)}
    assert {f"/{name}" for name in named} == set(web.FILES) - {"/"}


def test_elements_that_the_modules_ask_for_are_on_the_page() -> None:
    texts = _texts()
    known = re.findall(r"\sid=\"([^\"]+)\"", texts["/"])
    assert len(known) == len(set(known))
    asked = {name for text in texts.values() for name in re.findall(r"byId\(\"([^\"]+)\"\)", text)}
    assert asked
    assert asked <= set(known)


async def test_browser_that_has_a_file_is_not_sent_it_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        first = await served.http.get("/")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await served.http.get("/", headers={"if-none-match": condition})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert again.headers["cache-control"] == "no-cache"
        for condition in ('"other"', "", tag.strip('"')):
            assert (await served.http.get("/", headers={"if-none-match": condition})).status_code == 200
        tags = [(await served.http.get(path)).headers["etag"] for path in web.FILES]
    assert len(set(tags)) == len(web.FILES)


async def test_head_tells_the_length_and_sends_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        got, asked = await served.http.get("/"), await served.http.head("/")
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(got.content))
    assert asked.headers["etag"] == got.headers["etag"]


async def test_page_opens_without_a_key_and_nothing_beside_it(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, api_keys=KEYS) as served:
        for path in web.FILES:
            assert (await served.http.get(path)).status_code == 200
            assert (await served.http.head(path)).status_code == 200
            assert (await served.http.post(path)).status_code == 401
        tricks = ("/web", "/web/", "/web/../models", "/web/..%2f..%2fsettings.py", "/web/main.js/", "/web/%2e%2e/x")
        for path in tricks:
            assert (await served.http.get(path)).status_code == 401, path
        assert (await served.http.get("/models")).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/web", "/web/", "/web//main.js", "/web/nope.js", "/web/../settings.py", "/web/%2e%2e/settings.py", "/index.html"],
)
async def test_no_other_path_is_a_file(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.http.get(httpx.URL("http://demitasse", raw_path=path.encode()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.headers["cache-control"] == "no-store"


async def test_other_methods_are_told_in_the_one_shape(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.http.post("/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


async def _get(served: Served, path: str, port: int) -> int:
    return (await served.http.get(f"http://demitasse:{port}{path}")).status_code


@pytest.mark.parametrize("keys", [None, KEYS])
async def test_page_is_not_on_the_port_of_metrics(keys: str | None, tmp_path: Path) -> None:
    async with serving(tmp_path, api_keys=keys, metrics_port=9100) as served:
        assert [await _get(served, path, 8080) for path in ("/", "/web/main.js")] == [200, 200]
        assert [await _get(served, path, 9100) for path in ("/", "/web/main.js")] == [404, 404]


async def test_platform_may_have_its_predictions_at_the_same_path(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, api_keys=KEYS, aip_predict_route="/") as served:
        assert (await served.http.get("/")).headers["content-type"] == "text/html; charset=utf-8"
        picture = {"content": png(1), "headers": {"content-type": "image/png"}}
        assert (await served.http.post("/", **picture)).status_code == 401
        picture["headers"]["x-api-key"] = "k"
        assert (await served.http.post("/", **picture)).status_code == 200


async def test_openapi_document_is_for_programs(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        paths = served.app.openapi()["paths"]
    assert not set(paths) & set(web.FILES)
