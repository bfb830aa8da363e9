"""Pictures come in: chosen, dropped, pasted, as a sample, many at once, and large."""

import io
import re
from base64 import b64encode
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.files import file, shade
from tests.e2e.service import PICTURES

CUP = PICTURES / "espresso_cup.jpg"
CAT = PICTURES / "cat.jpg"


def drop(page: Page, target: str, *paths: Path) -> None:
    """Files from the desktop, let go over an element: the browser's own drag, and no event made by a script."""
    page.locator(target).scroll_into_view_if_needed()
    box = page.locator(target).bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
    session = page.context.new_cdp_session(page)
    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, **at})
    session.detach()


def test_chosen_picture_is_named(shipped, open_page) -> None:
    page = open_page(shipped)
    with page.expect_file_chooser() as chosen:
        page.get_by_text("Choose pictures").click()
    chosen.value.set_files(CUP)
    expect(page.locator("#verdict")).to_have_text("Almost certainly espresso")
    expect(page.locator("#scores li").first).to_contain_text(re.compile(r"espresso.*9\d(\.\d)?\s%"))
    expect(page.locator("#caption")).to_have_text("espresso_cup.jpg")


def test_pictures_can_be_dropped_anywhere_and_text_is_refused(shipped, open_page) -> None:
    page = open_page(shipped)
    drop(page, "#drop", CAT)
    expect(page.locator("#scores li").first).to_contain_text("cat")
    drop(page, "footer", CUP, CAT)
    expect(page.locator("#pictures [data-state=done]")).to_have_count(3)
    expect(page.locator("#verdict")).to_have_text("Almost certainly espresso")
    expect(page.locator("#drop")).to_be_in_viewport()
    transfer = page.evaluate_handle("() => { const t = new DataTransfer(); t.setData('text/plain', 'x'); return t; }")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#trouble-text")).to_contain_text("Only files can be dropped here")
    assert page.url == f"{shipped.address}/"


def test_pasted_picture_is_named(shipped, open_page) -> None:
    page = open_page(shipped, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (base64) => {
            const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
            const bitmap = await createImageBitmap(new Blob([bytes]));
            const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
            canvas.getContext("2d").drawImage(bitmap, 0, 0);
            await navigator.clipboard.write([new ClipboardItem({"image/png": await canvas.convertToBlob()})]);
        }""",
        b64encode(CUP.read_bytes()).decode(),
    )
    page.keyboard.press("Control+V")
    expect(page.locator("#verdict")).to_have_text("Almost certainly espresso")


def test_samples_are_named(shipped, open_page) -> None:
    page = open_page(shipped)
    page.click("#sample-espresso")
    expect(page.locator("#scores li").first).to_contain_text("espresso")
    page.click("#sample-cat")
    expect(page.locator("#scores li").first).to_contain_text("cat")


def test_twenty_files_at_once_are_answered_each_on_its_card(painted, open_page) -> None:
    page = open_page(painted)
    page.set_input_files("#choose", [shade(6 + 12 * i, f"{i}.png") for i in range(20)])
    cards = page.locator("#pictures button")
    expect(page.locator("#pictures [data-state=done]")).to_have_count(20)
    for i in range(20):
        bright = (6 + 12 * i) / 255
        label, confidence = ("bright", bright) if bright > 0.5 else ("dark", 1 - bright)
        expect(cards.nth(i)).to_contain_text(f"{i}.png")
        expect(cards.nth(i)).to_contain_text(re.compile(rf"{label}, {round(100 * confidence, 1):g}\s%"))
    cards.nth(18).click()
    expect(page.locator("#verdict")).to_have_text("Very likely bright")
    expect(page.locator("#caption")).to_have_text("18.png")
    page.click("#clear")
    expect(page.locator("#result")).to_be_hidden()
    expect(cards).to_have_count(0)


def test_other_files_are_answered_beside_a_bad_one(painted, open_page) -> None:
    page = open_page(painted)
    page.set_input_files(
        "#choose", [shade(20, "a.png"), file("b.txt", b"no picture", "text/plain"), shade(240, "c.png")]
    )
    expect(page.locator("#pictures [data-state=done]")).to_have_count(2)
    expect(page.locator("#pictures [data-state=failed]")).to_contain_text("no picture that the service reads")
    expect(page.get_by_role("heading", name="2 of 3 pictures answered")).to_be_visible()


def test_photo_of_40_megapixels_is_shown_and_named(shipped, open_page) -> None:
    buffer = io.BytesIO()
    with Image.open(CAT) as cat:
        cat.resize((7303, 5477), Image.Resampling.NEAREST).save(buffer, "JPEG", quality=40)
    page = open_page(shipped)
    page.set_input_files("#choose", file("large.jpg", buffer.getvalue(), "image/jpeg"))
    expect(page.locator("#scores li").first).to_contain_text("cat")
    expect(page.locator("#stage:not(.stale)")).to_be_visible()
    assert page.evaluate("[picture.width, picture.height]") == [1600, 1200]


def test_photo_that_lies_on_its_side_is_shown_upright(painted, open_page) -> None:
    image = Image.new("RGB", (40, 20), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    page = open_page(painted)
    page.set_input_files("#choose", file("phone.jpg", buffer.getvalue(), "image/jpeg"))
    expect(page.locator("#verdict")).to_have_text("Almost certainly bright")
    expect(page.locator("#stage:not(.stale)")).to_be_visible()
    assert page.evaluate("[picture.width, picture.height]") == [20, 40]


def test_format_that_only_the_service_reads_is_answered(painted, open_page) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "white").save(buffer, "TIFF")
    page = open_page(painted)
    page.set_input_files("#choose", file("scan.tif", buffer.getvalue(), "image/tiff"))
    expect(page.locator("#verdict")).to_have_text("Almost certainly bright")
    expect(page.locator("#caption")).to_contain_text("your browser can't draw it")


def test_format_that_only_the_browser_reads_is_converted(painted, open_page) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "white").save(buffer, "AVIF")
    page = open_page(painted)
    page.set_input_files("#choose", file("photo.avif", buffer.getvalue(), "image/avif"))
    expect(page.locator("#verdict")).to_have_text("Almost certainly bright")
    expect(page.locator("#caption")).to_contain_text("Converted to JPEG by your browser")
