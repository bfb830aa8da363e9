"""The models: what each of them is worth, and one picture through several."""

import json
import re

from playwright.sync_api import expect

from tests.browser.files import shade
from tests.e2e.service import PICTURES, ROOT


def test_cards_tell_what_the_manifests_say(shipped, open_page) -> None:
    page = open_page(shipped)
    cards = page.locator("#cards .card")
    manifests = [json.loads(path.read_text()) for path in sorted(ROOT.glob("models/*/*/manifest.json"))]
    expect(cards).to_have_count(len(manifests))
    expect(cards.first).to_contain_text(re.compile("imagenet.*default"))
    for manifest in manifests:
        card = cards.filter(has_text=f"{manifest['name']} version {manifest['version']}")
        expect(card).to_contain_text(f"{len(manifest['labels']):,} classes")
        accuracy = next((metric for metric in manifest["metrics"] if metric["name"] == "accuracy"), None)
        if accuracy is None:
            expect(card).to_contain_text("not measured")
        else:
            value, low, high = (re.escape(f"{accuracy[key]:.1%}"[:-1]) for key in ("value", "low", "high"))
            expect(card).to_contain_text(
                re.compile(rf"{value}\s%\s\({low}\s% to {high}\s%\) of {accuracy['n']:,} pictures")
            )
        bins = manifest["calibration"].get("reliability", [])
        expect(card.locator(".reliability .bin")).to_have_count(len(bins))
        if not bins:
            expect(card).to_contain_text("No reliability diagram recorded")


def test_reliability_diagram_has_a_bar_for_each_bin_as_high_as_its_accuracy(painted, open_page) -> None:
    page = open_page(painted)
    card = page.locator("#cards .card").filter(has_text="cups version 1")
    bars = card.locator(".reliability .bin")
    expect(bars).to_have_count(2)
    whole = float(card.locator(".reliability line.ideal").get_attribute("y1") or 0)
    assert [float(bar.get_attribute("height") or 0) / whole for bar in bars.all()] == [0.5, 0.9]
    expect(card.get_by_role("img")).to_have_accessible_name(re.compile(r"Reliability of cups: of 100 answers"))


def test_classes_of_a_model_can_be_read(painted, open_page) -> None:
    page = open_page(painted)
    card = page.locator("#cards .card").filter(has_text="plain version 1")
    card.get_by_text("What it knows").click()
    expect(card.get_by_label("Classes of plain")).to_have_text("dark, bright, never")


def test_models_that_agree_are_compared(painted, open_page) -> None:
    page = open_page(painted)
    page.set_input_files("#choose", shade(220))
    page.locator("#compare-versions label", has_text="plain 1").click()
    expect(page.locator("#agreement")).to_have_text("They agree: bright.")
    expect(page.locator("#columns article")).to_have_count(2)
    expect(page.locator("#columns .mark.same")).to_have_text("Agrees, as sure")


def test_models_that_differ_are_compared(shipped, open_page) -> None:
    page = open_page(shipped)
    page.set_input_files("#choose", PICTURES / "espresso_cup.jpg")
    page.locator("#compare-versions label", has_text="caltech101 1").click()
    expect(page.locator("#columns article")).to_have_count(2)
    expect(page.locator("#agreement")).to_have_text("Each says something else.")
    expect(page.locator("#columns .mark")).to_have_text("Differs: has no class espresso")
    page.locator("#compare-versions label", has_text="caltech101 1").click()
    expect(page.locator("#columns article")).to_have_count(0)
