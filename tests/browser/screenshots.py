"""Pictures of the page. The tests leave those of its main states in build/screenshots.

`python -m tests.browser.screenshots` makes those of README anew, which lie beside this file.
"""

import io
import logging
import os
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import installed
from tests.e2e.service import PICTURES, ROOT, Service

KEPT = ROOT / "build" / "screenshots"
SHOWN = Path(__file__).parent / "screenshots"
SIZE = {"width": 1120, "height": 800}
COLOURS = 200

logger = logging.getLogger(__name__)


def keep(page: Page, name: str, *, full_page: bool = False) -> None:
    """Leave a picture of the page as it stands for whoever reads the log of the tests."""
    path = KEPT / f"{name}.png"
    page.screenshot(path=path, full_page=full_page, animations="disabled")


def renew(service: Service) -> None:
    """An answer in light, and two models of one picture in dark, each reduced to a palette."""
    with sync_playwright() as playwright:
        path = installed.browser(playwright)
        with playwright.chromium.launch(executable_path=path, chromium_sandbox=False) as browser:
            for scheme in ("light", "dark"):
                page = browser.new_page(
                    base_url=service.address, viewport=SIZE, color_scheme=scheme, reduced_motion="reduce"
                )
                page.goto("/")
                expect(page.locator("#cards .card")).not_to_have_count(0)
                page.set_input_files("#choose", PICTURES / "espresso_cup.jpg")
                expect(page.locator("#verdict")).to_contain_text("espresso")
                expect(page.locator("#heat:not([width='1'])")).to_be_visible()
                if scheme == "dark":
                    page.locator("#compare-versions label", has_text="caltech101 1").click()
                    expect(page.locator("#columns article")).to_have_count(2)
                    page.locator("#compare").scroll_into_view_if_needed()
                _write(page.screenshot(animations="disabled"), SHOWN / f"{scheme}.png")


def _write(screenshot: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(screenshot)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    logger.info("%s: %d KiB", os.path.relpath(path), path.stat().st_size // 1024)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    SHOWN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        running = Service(Path(folder) / "log.jsonl", DRAIN_DELAY_S="0").wait_until_ready()
        try:
            renew(running)
        finally:
            running.stop()
