"""Words of strangers are shown as text, and the page's policy is in force."""

from playwright.sync_api import expect

from tests.browser.files import shade
from tests.browser.painted import HOSTILE


def test_hostile_file_names_and_labels_are_text(painted, open_page) -> None:
    page = open_page(painted)
    names = [f"{HOSTILE}.png", "</h2><script>alert(1)</script>.png", "\u202egnp.exe.png"]
    page.set_input_files("#choose", [shade(220, name) for name in names])
    expect(page.locator("#pictures [data-state=done]")).to_have_count(3)
    expect(page.locator("#caption")).to_have_text(names[0])
    expect(page.locator("#scores li")).to_have_count(3)
    expect(page.locator("#scores .name").nth(2)).to_have_text(HOSTILE)
    page.locator("#all-classes").check()
    page.locator("#compare-versions label", has_text="plain 1").click()
    expect(page.locator("#columns article")).to_have_count(2)
    page.locator("#cards summary").first.click()
    expect(page.locator("#cards .classes").first).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("main script").count() == 0


def test_policy_is_in_force_and_violations_are_seen(painted, open_page) -> None:
    page = open_page(painted, expected=("Content Security Policy",))
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                document.body.append(script);
            }"""
        )
    assert page.evaluate("window.ran") is None
