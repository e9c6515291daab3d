"""Studies in quick mode, and their pages in headless Chromium."""

import json
import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from app.commands.cli import main
from app.studies.catalogue import NAMES, course_texts, read_texts
from app.studies.report import MARKS
from app.studies.signs import HOLDS, SIGNS

CHROMIUM = shutil.which("chromium")
# These take nearly all of the time; `pytest -m slow` runs them.
DEAR = (
    "abstraction", "dead-relu", "depth-or-width", "eight-states", "gates", "initialization",
    "linear-stack", "losses", "no-structure", "optimizers", "regularization", "softmax",
    "trapezoid", "very-deep", "xor-limit",
)  # fmt: skip
CHEAP = [name for name in NAMES if name not in DEAR]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, quick_study):
    """A folder with the cheap studies, in quick mode, and their pages. Tests must not change it."""
    folder = tmp_path_factory.mktemp("studies")
    for name in CHEAP:
        shutil.copytree(quick_study(name), folder, dirs_exist_ok=True)
        with pytest.raises(SystemExit) as ended:
            main(["study", "run", name, "--quick", "--seeds", "2", "-q", "-o", str(folder)])
        assert not ended.value.code
    return folder


def result(studies, name):
    return json.loads((studies / name / "result.json").read_text("utf-8"))


@pytest.mark.parametrize("name", CHEAP)
def test_every_study_gives_its_claims_a_sign(name, studies):
    found = result(studies, name)
    assert found["quick"]
    assert found["claims"]
    assert all(claim["sign"] in SIGNS for claim in found["claims"])
    text = (studies / name / "README.md").read_text("utf-8")
    for claim in found["claims"]:
        assert MARKS[claim["sign"]] in text
    assert not re.search(r"\{[a-z_]+\}", text)


def test_theorems_hold(studies):
    for name in ("worked-example", "vanishing"):
        claims = result(studies, name)["claims"]
        signs = {claim["sign"] for claim in claims if claim["is_theorem"]}
        assert signs == {HOLDS}


@pytest.mark.slow
def test_every_study_is_shown_on_its_page(tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", "--all", "--quick", "--quiet", "-o", str(tmp_path)])
    assert not ended.value.code
    course = (tmp_path / "index.html").read_text("utf-8")
    for name in NAMES:
        claims = result(tmp_path, name)["claims"]
        assert all(claim["sign"] == HOLDS for claim in claims if claim["is_theorem"])
        assert f'href="{name}/index.html"' in course
        assert (tmp_path / name / "index.html").exists()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, studies):
    """Open the page from disk; a request to anywhere else, or an error, fails the test."""
    contexts, wrong = [], []

    def open_page(name="", **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((studies / name / "index.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


COURSE = {language: course_texts()[language]["title"] for language in ("en", "zh")}


def test_the_course_names_every_study_and_links_those_that_were_run(open_page):
    page = open_page()
    expect(page.locator("ol.course li")).to_have_count(len(NAMES))
    expect(page.locator("ol.course a")).to_have_count(len(CHEAP))
    ink, gates = page.locator("li#ink"), page.locator("li#gates")
    expect(ink).to_contain_text(read_texts("ink")["en"].idea)
    expect(ink.get_by_role("img")).to_have_count(2)  # the signs of its claims
    expect(gates).to_contain_text("hornbill study run gates")


def test_a_page_shows_every_claim_its_sign_and_the_figure(open_page, studies):
    for name in CHEAP:
        page = open_page(name)
        claims = result(studies, name)["claims"]
        shown = page.locator(".claims li")
        expect(shown).to_have_count(len(claims))
        for number, claim in enumerate(claims):
            sign = "theorem" if claim["is_theorem"] else claim["sign"]
            mark = MARKS[claim["sign"]]
            expect(shown.nth(number).locator(".sign")).to_have_text(
                f"{mark} {sign}", use_inner_text=True
            )
        picture = page.locator('figure [lang="en"] img')
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 300


def test_pages_lead_to_the_next_study_and_to_the_code(open_page):
    page = open_page("vanishing")
    before, after = page.locator(".beside a").all()
    expect(before).to_contain_text(read_texts("optimizers")["en"].title)
    expect(after).to_contain_text(read_texts("dead-relu")["en"].title)
    page.get_by_text("app/studies/claims/vanishing.py").click()
    expect(page.locator("pre")).to_contain_text("STUDY = Study(")
    page.get_by_text(read_texts("vanishing")["en"].title).first.click()
    page.get_by_text("Course").click()
    expect(page.locator("h1")).to_have_text(COURSE["en"], use_inner_text=True)


def test_the_keyboard_switches_the_page_to_chinese(open_page):
    page = open_page()
    title = page.locator("h1")
    expect(title).to_have_text(COURSE["en"], use_inner_text=True)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text(COURSE["zh"], use_inner_text=True)
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_text(COURSE["en"], use_inner_text=True)


def test_the_language_survives_a_reload_and_a_link_and_applies_to_title_and_figure(open_page):
    page = open_page("ink")
    figure = page.locator("figure a:visible")
    expect(figure).to_have_attribute("href", "figure.png")
    page.get_by_text("中文").click()
    for _ in range(2):
        expect(page.locator("html")).to_have_attribute("lang", "zh")
        expect(page).to_have_title(re.compile(read_texts("ink")["zh"].title))
        expect(figure).to_have_attribute("href", "figure-zh.png")
        page.reload()
    page.get_by_text("课程").click()
    expect(page.locator("h1")).to_have_text(COURSE["zh"], use_inner_text=True)


def test_a_chinese_browser_gets_the_page_in_chinese(open_page):
    page = open_page(locale="zh-CN")
    expect(page.locator("h1")).to_have_text(COURSE["zh"], use_inner_text=True)


@pytest.mark.parametrize("name", ["", "ink"])
def test_a_page_fits_a_phone(name, open_page):
    page = open_page(name, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if name:
        picture = page.locator('figure [lang="en"] img')
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.currentSrc").endswith("figure-narrow.png")
