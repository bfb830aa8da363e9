"""What stands behind an answer: its stages, its request id, and a command that asks the same."""

import json
import re
import subprocess
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.files import shade
from tests.browser.painted import HOSTILE

NAMES = (
    "plain.png",
    "two words.png",
    "it's.png",
    'quo"te.png',
    "semi;type=text,comma.png",
    "$(touch made) `touch made`.png",
    "back\\slash.png",
    "-dash.png",
    "@at.png",
    "caffè ☕.png",
    f"{HOSTILE}.png",
)


def run(command: str, folder: Path, **environment: str) -> dict:
    """The answer that a shell in that folder gets."""
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict = json.loads(done.stdout)
    return answer


def test_command_asks_the_same_whatever_the_file_is_called(painted, open_page, tmp_path: Path) -> None:
    page = open_page(painted, expected=("501",))
    page.select_option("#model", "plain 1")
    for i, name in enumerate(NAMES):
        picture = shade(130 + 10 * i, name)
        (tmp_path / name).write_bytes(picture["buffer"])
        with page.expect_response("**/predict?*") as response:
            page.set_input_files("#choose", picture)
        shown = response.value.json()
        expect(page.locator("#request-id")).to_have_text(shown["request_id"])
        answer = run(page.locator("#curl").text_content() or "", tmp_path)
        for key in ("model", "version", "predictions", "reliable", "prediction_set"):
            assert answer[key] == shown[key], name
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


def test_stages_and_request_id_are_those_of_the_answer(painted, open_page) -> None:
    page = open_page(painted)
    with page.expect_response("**/predict?*") as response:
        page.set_input_files("#choose", shade(220))
    page.get_by_text("Time, request id, command").click()
    answer = response.value.json()
    stages = page.locator("#timing dl div")
    expect(stages).to_have_text([re.compile(stage) for stage in ("decode", "queue", "inference", "network")])
    for i, ms in enumerate(answer["timing_ms"].values()):
        shown = f"{ms:.1f}" if ms < 9.95 else f"{ms:.0f}"
        expect(stages.nth(i)).to_have_text(re.compile(rf"{re.escape(shown)}\sms"))
    expect(page.locator("#request-id")).to_have_text(response.value.headers["x-request-id"])


def test_request_id_can_be_copied(painted, open_page) -> None:
    page = open_page(painted, permissions=["clipboard-read", "clipboard-write"])
    page.set_input_files("#choose", shade(220))
    page.get_by_text("Time, request id, command").click()
    page.get_by_role("button", name="Copy the request id").click()
    expect(page.get_by_role("button", name="Copy the request id")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#request-id").text_content()
