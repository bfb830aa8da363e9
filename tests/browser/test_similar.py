"""Pictures like the one that is shown, from the index of a model."""

from playwright.sync_api import expect

from tests.browser.files import shade
from tests.browser.painted import ONES

THUMBNAILS = """canvases => canvases.map((canvas) => canvas.getContext("2d").getImageData(0, 0, 1, 1).data[0])"""


def test_nearest_pictures_are_shown_in_order_each_with_its_own_thumbnail(painted, open_page) -> None:
    page = open_page(painted)
    page.set_input_files("#choose", shade(220))
    neighbours = page.locator("#neighbours li")
    expect(neighbours).to_have_count(len(ONES))
    expect(page.locator("#similar-text")).to_have_text("The nearest of 4 pictures, as cups 1 sees them.")
    nearest_first = sorted(range(len(ONES)), key=lambda picture: -ONES[picture])
    for place, picture in enumerate(nearest_first):
        label = f"picture {picture}" if picture % 2 else "cup"
        distance = 1 - (ONES[picture] / 12) ** 0.5  # cosine, from an embedding whose numbers are all the same
        expect(neighbours.nth(place)).to_have_text(f"{label}distance {distance:.2f}")
    assert neighbours.locator("canvas").evaluate_all(THUMBNAILS) == nearest_first


def test_no_pictures_are_offered_without_an_index(shipped, open_page) -> None:
    page = open_page(shipped)
    page.click("#sample-cat")
    expect(page.locator("#scores li").first).to_contain_text("cat")
    expect(page.locator("#compare")).to_be_visible()
    expect(page.locator("#similar")).to_be_hidden()
