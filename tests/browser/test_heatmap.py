"""What the model went by, drawn over the picture where it looked."""

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.files import painting, shade


def alpha(page: Page, x: float, y: float) -> float:
    """How opaque the heat map is at that fraction of the picture's width and height."""
    found: int = page.locator("#heat").evaluate(
        "(heat, [x, y]) => heat.getContext('2d').getImageData(x * heat.width, y * heat.height, 1, 1).data[3]", [x, y]
    )
    return found / 255


def two_spots() -> Image.Image:
    """300 x 200 of which a square in the middle is seen: green in its upper right, blue in its lower left."""
    image = Image.new("RGB", (300, 200), (200, 0, 0))
    image.paste((200, 255, 0), (150, 0, 300, 100))
    image.paste((200, 0, 255), (0, 100, 150, 200))
    return image


def test_heat_lies_where_the_evidence_for_the_chosen_class_is_inside_what_the_model_saw(painted, open_page) -> None:
    page = open_page(painted, expected=("willReadFrequently",))
    page.set_input_files("#choose", painting(two_spots()))
    expect(page.locator("#why-text")).to_contain_text("what speaks for bright.")
    expect(page.locator("#why-text")).to_contain_text("does not see the dark edge")
    assert page.evaluate("[heat.width, heat.height]") == [300, 200]
    heat, picture = page.locator("#heat").bounding_box(), page.locator("#picture").bounding_box()
    assert heat == picture
    upper_right, lower_left, upper_left = alpha(page, 0.78, 0.1), alpha(page, 0.22, 0.9), alpha(page, 0.22, 0.1)
    assert upper_right > 0.9
    assert max(lower_left, upper_left) < 0.1
    for x in (0.02, 0.15, 0.85, 0.98):
        assert 0.5 < alpha(page, x, 0.5) < 0.8, x  # the shade over what it did not see

    page.locator("#heat-classes label", has_text="dark").click()
    expect(page.locator("#why-text")).to_contain_text("what speaks for dark.")
    assert alpha(page, 0.22, 0.9) > 0.9
    assert alpha(page, 0.78, 0.1) < 0.1


def test_heat_fades_with_the_slider_and_goes_with_the_switch(painted, open_page) -> None:
    page = open_page(painted, expected=("willReadFrequently",))
    page.set_input_files("#choose", painting(two_spots()))
    expect(page.locator("#why-text")).to_contain_text("what speaks for")
    heat = page.locator("#heat")
    page.get_by_label("Opacity").fill("30")
    expect(heat).to_have_css("opacity", "0.3")
    page.get_by_label("Heat map").uncheck()
    expect(heat).to_have_css("opacity", "0")
    expect(page.get_by_label("Opacity")).to_be_hidden()
    page.get_by_label("Heat map").check()
    expect(heat).to_have_css("opacity", "0.3")


def test_picture_without_evidence_says_so(painted, open_page) -> None:
    page = open_page(painted, expected=("willReadFrequently",))
    page.set_input_files("#choose", painting(Image.new("RGB", (20, 20), (250, 0, 0))))
    expect(page.locator("#why-text")).to_have_text("Nothing in the picture speaks for bright.")


def test_version_from_before_heat_maps_says_how_to_have_them(painted, open_page) -> None:
    page = open_page(painted, expected=("501",))
    page.select_option("#model", "plain 1")
    page.set_input_files("#choose", shade(220))
    expect(page.locator("#why-text")).to_contain_text("Export it again")
    expect(page.get_by_label("Opacity")).to_be_hidden()
    expect(page.locator("#verdict")).to_have_text("Very likely bright")
