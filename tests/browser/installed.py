"""Which browser drives the tests of the page."""

import shutil
from pathlib import Path

from playwright.sync_api import Playwright

COMMANDS = ("chromium", "google-chrome", "google-chrome-stable", "microsoft-edge")
NONE = "no browser is installed: `apt-get install chromium` or `.venv/bin/playwright install chromium` brings one"


def browser(playwright: Playwright) -> str | None:
    """The path of a browser of Chromium's family: the machine's own, or one that Playwright has downloaded."""
    downloaded = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, COMMANDS)), downloaded if Path(downloaded).exists() else None)
