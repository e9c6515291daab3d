"""Studies in quick mode, and their page in headless Chromium."""

import json
import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from app.commands.cli import main
from app.studies.catalogue import NAMES, read_texts
from app.studies.study import VERDICTS

CHROMIUM = shutil.which("chromium")
# These take nearly all of the time; `pytest -m slow` runs them.
DEAR = (
    "abstraction", "dead-relu", "depth-or-width", "eight-states", "gates", "initialization",
    "linear-stack", "losses", "no-structure", "optimizers", "regularization", "trapezoid",
    "very-deep", "xor-limit",
)  # fmt: skip
CHEAP = [name for name in NAMES if name not in DEAR]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, quick_study):
    """A folder with the cheap studies, in quick mode, and their page. Tests must not change it."""
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
def test_every_study_reaches_a_verdict(name, studies):
    found = result(studies, name)
    assert found["verdict"] in VERDICTS
    assert found["quick"]
    assert found["checks"]
    text = (studies / name / "README.md").read_text("utf-8")
    assert f"**Verdict: {found['verdict']}.**" in text
    assert text.count("✓") + text.count("✗") == 2 * len(found["checks"])  # in two languages
    assert not re.search(r"\{[a-z_]+\}", text)


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("worked-example", ["decimals"]),
        ("vanishing", ["bound", "ten"]),
    ],
)
def test_exact_facts_are_exact(name, checks, studies):
    found = {check["name"]: check["holds"] for check in result(studies, name)["checks"]}
    assert all(found[check] for check in checks)


@pytest.mark.slow
def test_every_study_reaches_a_verdict_and_is_shown_on_the_page(tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", "--all", "--quick", "--quiet", "-o", str(tmp_path)])
    assert not ended.value.code
    page = (tmp_path / "index.html").read_text("utf-8")
    for name in NAMES:
        found = result(tmp_path, name)
        assert found["verdict"] in VERDICTS
        assert all(check["holds"] for check in found["checks"] if check["is_fact"])
        assert f'<article id="{name}">' in page


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

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((studies / "index.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def test_the_page_shows_every_claim_verdict_and_figure(open_page, studies):
    page = open_page()
    expect(page.locator("article")).to_have_count(len(CHEAP))
    for name in CHEAP:
        article = page.locator(f"article#{name}")
        expect(article).to_contain_text(read_texts(name)["en"].claim)
        expect(article.locator(".verdict")).to_have_text(
            result(studies, name)["verdict"], use_inner_text=True
        )
        picture = article.locator("img")
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 300
        expect(article.locator(".checks li")).to_have_count(len(result(studies, name)["checks"]))


def test_the_keyboard_switches_the_page_to_chinese(open_page):
    page = open_page()
    title = page.locator("h1")
    expect(title).to_have_text("Claims about neural networks, tested", use_inner_text=True)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text("神经网络的命题与检验", use_inner_text=True)
    claim = page.locator("article#ink .claim")
    expect(claim).to_have_text(read_texts("ink")["zh"].claim, use_inner_text=True)
    page.keyboard.press("ArrowLeft")
    expect(claim).to_have_text(read_texts("ink")["en"].claim, use_inner_text=True)


def test_the_language_survives_a_reload_and_applies_to_title_and_figures(open_page):
    page = open_page()
    caption = page.locator("article#ink img")
    expect(caption).to_have_attribute("alt", read_texts("ink")["en"].caption)
    page.get_by_text("中文").click()
    for _ in range(2):
        expect(page.locator("html")).to_have_attribute("lang", "zh")
        expect(page).to_have_title(re.compile("神经网络的命题与检验"))
        expect(caption).to_have_attribute("alt", read_texts("ink")["zh"].caption)
        page.reload()


def test_a_chinese_browser_gets_the_page_in_chinese(open_page):
    page = open_page(locale="zh-CN")
    expect(page.locator("h1")).to_have_text("神经网络的命题与检验", use_inner_text=True)


def test_the_page_fits_a_phone(open_page):
    page = open_page(viewport={"width": 360, "height": 740})
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
