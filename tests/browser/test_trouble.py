"""What goes wrong is said in words, and goes on where it can."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.files import file, shade
from tests.browser.painted import write_models
from tests.e2e.service import PICTURES, Service

UNDER_WAY = 'demitasse_under_way_images{model="cups",version="1"} 1.0'
NO_PICTURES = (
    (file("notes.txt", b"no picture at all", "text/plain"), "It takes JPEG, PNG, WebP, GIF, BMP and TIFF."),
    (file("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "image/heic"), "This is a HEIC photo"),
    (file("empty.png", b""), "The file is empty."),
)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While it exists, the service below computes nothing."""
    return tmp_path_factory.mktemp("held") / "held"


@pytest.fixture(scope="module")
def narrow(start_painted: Callable[..., Service], held: Path) -> Service:
    """A service that takes little at a time."""
    limits = {"MAX_BODY_BYTES": "400000", "MAX_IMAGE_PIXELS": "5000000", "QUEUE_SIZE": "1"}
    return start_painted(**limits, HELD_BY=str(held), REQUEST_TIMEOUT_MS="60000")


def test_file_that_is_no_picture_is_refused_before_it_is_sent(painted, open_page) -> None:
    page = open_page(painted)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    for given, words in NO_PICTURES:
        page.set_input_files("#choose", given)
        expect(page.locator(".said")).to_contain_text(words)
        expect(page.locator("#ask-again")).to_be_hidden()
    assert [url for url in sent if "/predict" in url] == []


def test_refusal_of_the_service_is_shown_in_its_words(painted, open_page) -> None:
    page = open_page(painted, expected=("400",))
    with page.expect_response("**/predict?*") as response:
        page.set_input_files("#choose", file("cut.jpg", (PICTURES / "cat.jpg").read_bytes()[:3000], "image/jpeg"))
    message = response.value.json()["error"]["message"]
    expect(page.locator("#verdict")).to_have_text(message[0].upper() + message[1:] + ".")
    expect(page.locator("#ask-again")).to_be_hidden()  # the same file would be refused again
    page.set_input_files("#choose", shade(220))
    expect(page.locator("#verdict")).to_have_text("Very likely bright")


def test_picture_over_the_limits_is_shrunk_by_the_browser(narrow, open_page) -> None:
    page = open_page(narrow, expected=("413", "429"))  # the heat map and similar pictures want the one place at once
    bytes_, pixels = io.BytesIO(), io.BytesIO()
    image = Image.effect_noise((600, 400), 90).convert("RGB")
    image.paste((250, 250, 250), (0, 0, 300, 300))
    image.save(bytes_, "BMP")
    Image.new("L", (3000, 2000), 0).save(pixels, "PNG")
    for given, sentence in (
        (file("huge.bmp", bytes_.getvalue(), "image/bmp"), "Almost certainly bright"),
        (file("wide.png", pixels.getvalue()), "Almost certainly dark"),
    ):
        page.set_input_files("#choose", given)
        expect(page.locator("#verdict")).to_have_text(sentence)
        expect(page.locator("#caption")).to_contain_text("Shrunk by your browser")


def test_slow_service_and_full_queue_are_waited_for(narrow, held: Path, open_page) -> None:
    held.touch()
    page = open_page(narrow, expected=("429",), timezone_id="UTC")  # a tab of its own, because of its clock
    page.clock.install()
    page.set_input_files("#choose", shade(20, "first.png"))
    narrow.wait_for(lambda: UNDER_WAY in narrow.http.get("/metrics").text, "the first picture to be under way")
    page.clock.fast_forward(5000)
    expect(page.locator("#verdict")).to_have_text("Looking…")
    expect(page.locator("#reason")).to_have_text("This takes longer than usual.")
    page.set_input_files("#choose", shade(220, "second.png"))
    expect(page.locator("#reason")).to_contain_text("The service is busy. Next try in 1 s.")
    held.unlink()
    expect(page.locator("#verdict")).to_have_text("Very likely bright")
    expect(page.locator("#pictures [data-state=done]")).to_have_count(2)


def test_models_come_and_go_and_the_service_stops_and_starts(start_painted, open_page, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    settings = {"MODEL_REPOSITORY": str(models), "RELOAD_INTERVAL_S": "0.1"}
    service = start_painted(wait=False, **settings)
    service.wait_for(lambda: service.http.get("/health/live").status_code == 200, "life")
    page = open_page(service, expected=("404", "501", "ERR_CONNECTION_REFUSED"), until="#trouble:visible")
    expect(page.locator("#trouble-text")).to_have_text("No model answers yet. They may still be loading.")
    write_models(models)
    expect(page.locator("#trouble")).to_be_hidden()
    page.set_input_files("#choose", shade(220))
    expect(page.locator("#verdict")).to_have_text("Very likely bright")

    page.select_option("#model", "plain 1")
    shutil.rmtree(models / "plain")
    service.wait_for(lambda: "plain" not in service.live(), "the model to go")
    page.set_input_files("#choose", shade(250))
    expect(page.locator("#verdict")).to_contain_text("plain")
    page.click("#ask-again")
    expect(page.locator("#verdict")).to_have_text("Almost certainly bright")
    expect(page.locator("#model option")).to_have_count(1)

    service.stop()
    page.set_input_files("#choose", shade(5))
    expect(page.locator("#verdict")).to_have_text("The service does not answer.")
    start_painted(port=service.port, **settings)
    page.click("#ask-again")
    expect(page.locator("#verdict")).to_have_text("Almost certainly dark")
