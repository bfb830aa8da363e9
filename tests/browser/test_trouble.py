"""What goes wrong is said in words, and goes on where it can."""

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.files import file, shade
from tests.browser.painted import write_models
from tests.e2e.service import PICTURES

UNDER_WAY = 'demitasse_under_way_images{model="cups",version="1"} 1.0'


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (file("notes.txt", b"no picture at all", "text/plain"), "It takes JPEG, PNG, WebP, GIF, BMP and TIFF."),
        (file("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "image/heic"), "This is a HEIC photo"),
        (file("empty.png", b""), "The file is empty."),
    ],
)
def test_file_that_is_no_picture_is_refused_before_it_is_sent(painted, open_page, given, words: str) -> None:
    page = open_page(painted)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.set_input_files("#choose", given)
    expect(page.locator("#verdict")).to_contain_text(words)
    assert [url for url in sent if "/predict" in url] == []


def test_refusal_of_the_service_is_shown_in_its_words(painted, open_page) -> None:
    page = open_page(painted, expected=("400",))
    page.set_input_files("#choose", file("cut.jpg", (PICTURES / "cat.jpg").read_bytes()[:3000], "image/jpeg"))
    with page.expect_response("**/predict?*") as response:
        page.click("#ask-again")
    message = response.value.json()["error"]["message"]
    expect(page.locator("#verdict")).to_have_text(message[0].upper() + message[1:] + ".")
    page.set_input_files("#choose", shade(220))
    expect(page.locator("#verdict")).to_have_text("Very likely bright")


def test_picture_of_too_many_pixels_is_shrunk(start_painted, open_page) -> None:
    buffer = io.BytesIO()
    Image.new("L", (3000, 2000), 255).save(buffer, "PNG")
    page = open_page(start_painted(MAX_IMAGE_PIXELS="5000000"), expected=("413",))
    page.set_input_files("#choose", file("wide.png", buffer.getvalue()))
    expect(page.locator("#verdict")).to_have_text("Almost certainly bright")
    expect(page.locator("#caption")).to_contain_text("Shrunk by your browser")


def test_full_queue_is_waited_for(start_painted, open_page, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.touch()
    service = start_painted(QUEUE_SIZE="1", HELD_BY=str(held), REQUEST_TIMEOUT_MS="60000")
    page = open_page(service, expected=("429",))
    page.set_input_files("#choose", shade(20, "first.png"))
    service.wait_for(lambda: UNDER_WAY in service.http.get("/metrics").text, "the first picture to be under way")
    page.set_input_files("#choose", shade(220, "second.png"))
    expect(page.locator("#verdict")).to_have_text("Looking…")
    expect(page.locator("#reason")).to_contain_text("The service is busy. Next try in 1 s.")
    held.unlink()
    expect(page.locator("#verdict")).to_have_text("Very likely bright")
    expect(page.locator("#pictures [data-state=done]")).to_have_count(2)


def test_service_that_stops_is_said_and_asked_again(start_painted, open_page) -> None:
    service = start_painted()
    page = open_page(service, expected=("ERR_CONNECTION_REFUSED",))
    page.set_input_files("#choose", shade(220))
    expect(page.locator("#verdict")).to_have_text("Very likely bright")
    service.stop()
    page.set_input_files("#choose", shade(5))
    expect(page.locator("#verdict")).to_have_text("The service does not answer.")
    start_painted(port=service.port)
    page.click("#ask-again")
    expect(page.locator("#verdict")).to_have_text("Almost certainly dark")


def test_page_waits_for_the_first_model(start_painted, open_page, tmp_path: Path) -> None:
    empty = tmp_path / "models"
    empty.mkdir()
    service = start_painted(wait=False, MODEL_REPOSITORY=str(empty), RELOAD_INTERVAL_S="0.1")
    service.wait_for(lambda: service.http.get("/health/live").status_code == 200, "life")
    page = open_page(service, until="#trouble:visible")
    expect(page.locator("#trouble-text")).to_contain_text("No model answers yet")
    write_models(empty)
    expect(page.locator("#trouble")).to_be_hidden()
    page.set_input_files("#choose", shade(220))
    expect(page.locator("#verdict")).to_have_text("Very likely bright")
