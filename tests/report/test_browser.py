"""The report in a real browser."""

from __future__ import annotations

import json

import pytest
from hostile import HOSTILE, hostile_record
from poisoned_trials import study

from casemate.report import html

pytestmark = pytest.mark.browser

COLOR = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"


def prefer(driver, scheme):
    """Prefer light or dark, and no smooth scrolling, during which a click would miss."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def size(driver, width, height=900):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory, record):
    folder = tmp_path_factory.mktemp("browser")
    return {
        "demo": html.write(record, folder / "demo.html").as_uri(),
        "hostile": html.write(hostile_record(), folder / "hostile.html").as_uri(),
        "training": html.write(study(), folder / "training.html").as_uri(),
    }


@pytest.fixture
def opened(driver, pages):
    """Open a page; afterwards hold that nothing was complained of and nothing was asked for."""
    driver.get_log("browser")
    driver.get_log("performance")
    prefer(driver, "light")
    size(driver, 1280)
    asked = []

    def open_(name, fragment=""):
        driver.get("about:blank")
        asked.append(pages[name])
        driver.get(pages[name] + fragment)
        return driver

    yield open_
    assert driver.get_log("browser") == []
    requests = [
        m["params"]["request"]["url"]
        for entry in driver.get_log("performance")
        if (m := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    allowed = ("data:", "about:", *asked)
    assert [u for u in requests if not u.startswith(allowed)] == []
    driver.execute_script("try { localStorage.clear() } catch {}")


def css(driver, selector):
    return driver.find_element("css selector", selector)


def every(driver, selector):
    return driver.find_elements("css selector", selector)


def shown_trials(driver):
    """Numbers of the trials that can be seen, from top to bottom."""
    return driver.execute_script(
        "return [...document.querySelectorAll('#trial-table tbody')]"
        ".filter((e) => e.checkVisibility()).map((e) => Number(e.id.slice(6)))"
    )


def test_it_opens_and_says_the_verdict(opened):
    driver = opened("demo")
    assert driver.title.startswith("Policy violated: Traffic signs")
    assert css(driver, ".headline").text == "Policy violated"
    assert every(driver, "figure.chart svg")[0].size["width"] > 200
    pictures = every(driver, "#finding-1 img")
    assert len(pictures) == 18
    assert all(p.get_property("naturalWidth") == 32 for p in pictures)


def test_the_policy_of_the_page_blocks_what_does_not_belong_to_it(opened, driver):
    opened("demo")
    driver.execute_script(
        "window.blocked = [];"
        "addEventListener('securitypolicyviolation', e => blocked.push(e.violatedDirective));"
        "const s = document.createElement('script'); s.textContent = 'document.title = 1';"
        "document.body.append(s);"
        "const i = new Image(); i.src = 'https://example.invalid/x.png';"
    )
    blocked = driver.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(window.blocked), 200)"
    )
    assert sorted(blocked) == ["img-src", "script-src-elem"]
    assert driver.title != "1"
    for log in ("browser", "performance"):
        driver.get_log(log)  # what was provoked here


def test_the_theme_follows_the_system_until_the_reader_chooses(opened):
    driver = opened("demo")
    light = driver.execute_script(COLOR, "body")
    prefer(driver, "dark")
    dark = driver.execute_script(COLOR, "body")
    assert light != dark
    button = css(driver, "#theme")
    assert button.text == "Light theme"
    button.click()
    assert driver.execute_script(COLOR, "body") == light
    assert button.text == "Dark theme"
    css(driver, "#theme").click()
    assert driver.execute_script(COLOR, "body") == dark


def test_the_table_filters(opened, record):
    from selenium.webdriver.support.ui import Select

    driver = opened("demo")
    everything = [t.number for t in record.trials]
    assert shown_trials(driver) == everything
    css(driver, "#find").send_keys("lbfgs stop")
    assert shown_trials(driver) == [38]
    assert css(driver, "#shown").text == "1 of 41 trials"
    css(driver, "#clear").click()
    Select(css(driver, "#state")).select_by_visible_text("failed")
    assert shown_trials(driver) == [40]
    Select(css(driver, "#state")).select_by_visible_text("all")
    css(driver, "#controls").click()
    assert not {16, 17, 18, 19, 20, 39} & set(shown_trials(driver))
    css(driver, "#controls").click()
    css(driver, "#find").send_keys("nothing like it")
    assert shown_trials(driver) == []
    assert css(driver, "#nothing").is_displayed()
    css(driver, ".matrix .violated a").click()
    white = [t.number for t in record.trials if t.threat == "evasion-white-box"]
    assert shown_trials(driver) == white


def test_the_table_sorts_by_value_with_gaps_last(opened, record):
    driver = opened("demo")
    column = next(e for e in every(driver, ".sorter") if e.text.startswith("Success"))
    rates = {
        t.number: t.evidence["attack success rate"].value if t.evidence else None
        for t in record.trials
    }
    for direction, sign in (("ascending", 1), ("descending", -1)):
        column.click()
        order = shown_trials(driver)
        values = [rates[n] for n in order]
        assert values[-2:] == [None, None]
        measured = [sign * v for v in values[:-2]]
        assert measured == sorted(measured)
        head = driver.execute_script("return arguments[0].closest('th')", column)
        assert head.get_attribute("aria-sort") == direction
    names = next(e for e in every(driver, ".sorter") if e.text.startswith("Attack"))
    names.click()
    attacks = {t.number: t.settings["attack"]["name"] for t in record.trials}
    order = [attacks[n] for n in shown_trials(driver)]
    assert order == sorted(order)


def test_findings_open_by_mouse_keyboard_and_link(opened):
    from selenium.webdriver.common.keys import Keys

    driver = opened("demo")
    second = css(driver, "#finding-2")
    assert second.get_attribute("open") is None
    css(driver, "#finding-2 > summary").click()
    assert css(driver, "#finding-2 .rows").is_displayed()
    css(driver, "#finding-3 > summary").send_keys(Keys.ENTER)
    assert css(driver, "#finding-3 .rows").is_displayed()
    css(driver, "#open-all").click()
    assert all(e.get_attribute("open") for e in every(driver, "details.finding"))
    opened("demo", "#finding-5")
    assert css(driver, "#finding-5 .rows").is_displayed()
    opened("demo", "#trial-40")
    assert "RuntimeError" in css(driver, "#more-40 .error").text


def test_details_of_a_trial_unfold(opened, record):
    driver = opened("demo")
    button = css(driver, "#trial-7 .more")
    assert not css(driver, "#more-7").is_displayed()
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    replay = css(driver, "#more-7 pre code")
    assert replay.text == record.trials[6].replay
    button.click()
    assert not css(driver, "#more-7").is_displayed()


def test_the_replay_command_is_copied(opened, record):
    driver = opened("demo")
    number = record.findings[0].trial
    command = record.trials[number - 1].replay
    boxes = every(driver, "#finding-1 .code")
    box = next(b for b in boxes if b.text.startswith("casemate run"))
    button = box.find_element("css selector", ".copy")
    driver.execute_script(
        "document.addEventListener('copy', () => { window.copied = String(getSelection()) });"
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (text) => {"
        "  if (window.refuse) throw Error('refused'); window.copied = text; }}});"
    )
    for refuse in (False, True):  # by the clipboard, and by the selection where that is refused
        driver.execute_script("window.refuse = arguments[0]; window.copied = null", refuse)
        button.click()
        copied = driver.execute_async_script(
            "const done = arguments[0]; setTimeout(() => done(window.copied), 100)"
        )
        assert copied == command
    assert command in box.text
    assert css(driver, "#said").get_attribute("textContent") == "Copied"


@pytest.mark.parametrize("name", ["demo", "hostile", "training"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_width_makes_the_page_scroll_sideways(opened, driver, name, width):
    size(driver, width)
    opened(name)
    size(driver, width)
    driver.execute_script("document.querySelectorAll('details').forEach(e => { e.open = true })")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_attacks_on_training_have_their_picture_and_tables_in_both_themes(opened, driver):
    opened("training")
    for scheme in ("light", "dark"):
        prefer(driver, scheme)
        picture = css(driver, "#frontier figure svg")
        assert picture.size["width"] > 200
        assert picture.get_attribute("aria-label").startswith("attack success rate against")
    words = css(driver, "#frontier").text
    assert "between 60 and 180" in words
    assert "vgg, as the victim" in words
    cells = every(driver, "#training-defenses tbody td")
    assert all(cell.get_attribute("textContent").strip() for cell in cells)


def test_hostile_names_are_text(opened):
    driver = opened("hostile")
    assert driver.title.startswith("Policy violated: <img src=x onerror=")
    assert css(driver, "h1").text == HOSTILE[0]
    assert driver.execute_script("return document.images.length") == len(
        every(driver, 'img[src^="data:image/png"]')
    )
    assert driver.execute_script("return document.scripts.length") == 1
    assert (
        driver.execute_script("return document.querySelectorAll('[onerror],[onclick]').length") == 0
    )
    assert css(driver, "body").is_displayed()
    for more in every(driver, ".more")[:8]:
        more.click()
    css(driver, "#find").send_keys("<img")
    assert 0 < len(shown_trials(driver)) < 41


def test_it_is_complete_without_scripts(driver, pages):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(pages["demo"])
        assert len([b for b in every(driver, "button") if b.is_displayed()]) == 0
        assert css(driver, "#more-40 .error").is_displayed()
        assert css(driver, "#trial-41").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        driver.get("about:blank")


@pytest.mark.parametrize("width", [1000, 1400])
def test_no_table_on_attacks_on_training_is_cut(opened, driver, width):
    size(driver, width)
    opened("training")
    size(driver, width)
    cut = driver.execute_script(
        "return [...document.querySelectorAll('#poisonings, #frontier, #training-defenses')]"
        ".flatMap((e) => [...e.querySelectorAll('.scroll')]).filter((e) => e.checkVisibility())"
        ".filter((e) => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)"
        ".map((e) => [e.getAttribute('aria-labelledby'), e.scrollWidth, e.clientWidth,"
        " e.scrollHeight, e.clientHeight])"
    )
    assert cut == []
    rows = "return [...document.querySelectorAll('#poisonings tbody tr')].map(e => e.offsetHeight)"
    assert max(driver.execute_script(rows)) < 130


def test_a_long_table_says_that_it_scrolls(opened):
    driver = opened("demo")
    frame = css(driver, "#trials .scroll")
    assert "long" in frame.get_attribute("class").split()
    assert css(driver, "#trials .scrolls").text == "41 rows; the table scrolls within its frame."
    assert every(driver, "#scenarios > .scrolls") == []
