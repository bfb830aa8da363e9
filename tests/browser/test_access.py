"""Everybody can use it: on a phone, by keyboard alone, and as axe-core checks it, in light and dark."""

from typing import Any, cast

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.files import file, shade
from tests.browser.screenshots import keep

PHONE = {"viewport": {"width": 360, "height": 800}, "has_touch": True, "is_mobile": True}
LONG = f"{'W' * 200}.png"
LEAST_TARGET = 24  # CSS pixels: WCAG 2.2, 2.5.8
COMFORTABLE_TARGET = 40
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

NARROW_TARGETS = """() => [...document.querySelectorAll("button, select, label.button, .chip, .switch, summary, nav a")]
    .filter((element) => element.checkVisibility({visibilityProperty: true}))
    .map((element) => [element.textContent.trim().slice(0, 30), element.getBoundingClientRect()])
    .filter(([, box]) => box.width > 1 && Math.min(box.width, box.height) < %d)
    .map(([name, box]) => `${name}: ${box.width} x ${box.height}`)"""


def everything(page: Page) -> None:
    """Several pictures, one of them refused, and all that can be opened of the one that is shown."""
    page.set_input_files("#choose", [shade(220, LONG), shade(135, "b.png"), file("c.txt", b"x", "text/plain")])
    expect(page.locator("#pictures [data-state=done]")).to_have_count(2)
    expect(page.locator("#why-text")).to_contain_text("speaks for")
    page.locator("#all-classes").check()
    expect(page.locator("#all-scores li")).to_have_count(3)
    for summary in page.locator("summary").all():
        summary.click()
    page.locator("#compare-versions label", has_text="plain 1").click()
    expect(page.locator("#columns article")).to_have_count(2)
    expect(page.locator("#neighbours li")).not_to_have_count(0)


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
    assert page.evaluate(NARROW_TARGETS % LEAST_TARGET) == []


def test_phone_needs_no_scrolling_sideways_and_no_small_fingers(painted, open_page) -> None:
    page = open_page(painted, **PHONE)
    assert_fits(page)
    expect(page.get_by_text("Take a photo")).to_be_visible()
    for target in (
        page.locator("label.button").first,
        page.get_by_label("Model", exact=True),
        page.locator("#sample-cat"),
    ):
        box = target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= COMFORTABLE_TARGET
    everything(page)
    assert_fits(page)
    keep(page, "phone", full_page=True)
    page.locator("#pictures button").nth(1).tap()
    expect(page.locator("#verdict")).to_be_in_viewport()
    expect(page.locator("#verdict")).to_contain_text("I don't know")


def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(selector).evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"Tab never came to {selector}")


def assert_focus_is_seen(page: Page) -> None:
    """The element with the focus, or the label that stands for it, has an outline."""
    widths = page.evaluate(
        """() => {
            const focused = document.activeElement;
            return [focused, focused.nextElementSibling, focused.closest("label")].filter(Boolean)
                .map((element) => getComputedStyle(element))
                .map((style) => style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth));
        }"""
    )
    assert max(widths) >= 2


def test_keyboard_alone_does_it_all(painted, open_page) -> None:
    page = open_page(painted)
    page.on("filechooser", lambda _: None)  # from now on choosers are caught: later, the first key would race with that
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the picture")).to_be_focused()
    tab_to(page, "#choose")
    assert_focus_is_seen(page)
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Space")
    chosen.value.set_files([shade(220, "a.png"), shade(20, "b.png")])
    expect(page.locator("#status")).to_contain_text("2 of 2 pictures answered")
    tab_to(page, "#pictures button >> nth=1")
    assert_focus_is_seen(page)
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_have_text("Very likely dark")
    expect(page.locator("#why-text")).to_contain_text("speaks for dark")

    tab_to(page, "#heat-on")
    assert_focus_is_seen(page)
    tab_to(page, "#heat-classes input:checked")
    assert_focus_is_seen(page)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#why-text")).to_contain_text("speaks for bright")
    tab_to(page, "#heat-opacity")
    page.keyboard.press("Home")
    expect(page.locator("#heat")).to_have_css("opacity", "0")

    tab_to(page, "#all-classes")
    page.keyboard.press("Space")
    tab_to(page, "#class-search")
    page.keyboard.type("bri")
    expect(page.locator("#found")).to_have_text("1 of 3 classes")
    tab_to(page, "#details summary")
    page.keyboard.press("Enter")
    expect(page.locator("#curl")).to_be_visible()
    tab_to(page, "#compare-versions input")
    assert_focus_is_seen(page)
    page.keyboard.press("Space")
    expect(page.locator("#columns article")).to_have_count(2)


def problems(page: Page) -> list[str]:
    """What axe-core finds on the page as it stands: everything in light, and what depends on colours in dark."""
    page.evaluate(f"window.axe || {AXE_SCRIPT}")
    found: list[str] = []
    for scheme, checked in (("light", {"runOnly": WCAG}), ("dark", {"runOnly": ["color-contrast"]})):
        page.emulate_media(color_scheme=scheme)
        response = page.evaluate("options => axe.run(options)", checked | {"resultTypes": ["violations"]})
        violations = cast(list[dict[str, Any]], response["violations"])
        found += [f"{scheme}, {one['id']}: {node['html'][:150]}" for one in violations for node in one["nodes"]]
    return found


def test_axe_finds_nothing_on_any_view(painted, open_page) -> None:
    page = open_page(painted)
    assert problems(page) == []
    everything(page)
    assert problems(page) == []
    keep(page, "everything-dark", full_page=True)
    page.locator("#pictures button").nth(1).click()
    expect(page.locator("#verdict")).to_contain_text("I don't know")
    assert problems(page) == []
    page.locator("#pictures button").nth(2).click()
    expect(page.locator("#result[data-state=failed]")).to_be_visible()
    assert problems(page) == []
    page.emulate_media(color_scheme="light")
    keep(page, "failed-light")


def test_axe_finds_nothing_where_a_key_is_asked_for(locked, open_page) -> None:
    page = open_page(locked, expected=("401",), until="#key-dialog[open]")
    assert problems(page) == []
    keep(page, "key-dark")
    page.keyboard.press("Escape")
    expect(page.locator("#trouble")).to_be_visible()
    assert problems(page) == []


def test_bars_and_switches_are_seen_in_forced_colours(painted, open_page) -> None:
    page = open_page(painted, forced_colors="active")
    page.set_input_files("#choose", shade(150))
    expect(page.locator("#scores li")).to_have_count(3)
    page.locator("#heat-on").uncheck()
    background = "element => getComputedStyle(element).backgroundColor"
    canvas = page.locator("body").evaluate(background)
    for selector in ("#scores .track i", "#heat-on", "#all-classes"):
        assert page.locator(selector).first.evaluate(background) != canvas, selector
    chosen, other = (
        page.locator(f"#heat-classes .chip{which}").first for which in (":has(:checked)", ":not(:has(:checked))")
    )
    assert chosen.evaluate(background) != other.evaluate(background)
