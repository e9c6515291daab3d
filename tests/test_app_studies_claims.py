"""Claims: a verdict follows from the numbers, facts are exact, and texts are complete."""

import copy
import re
from pathlib import Path

import pytest
from study_numbers import CASES, SEEDS

from app.studies.catalogue import LANGUAGES, NAMES, load_study, module_name, read_texts
from app.studies.report import sentences
from app.studies.study import VERDICTS, Check, Effort, verdict

ROOT = Path(__file__).parent.parent
HOLDS, IN_PART, FAILS = VERDICTS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("expected", VERDICTS)
def test_a_verdict_follows_from_the_numbers(name, expected):
    numbers = CASES[name][VERDICTS.index(expected)]
    assert verdict(load_study(name).judge(numbers)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_complete_in_both_languages(name):
    checks = load_study(name).judge(CASES[name][0])
    for sentence in sentences(name, checks):
        for language in LANGUAGES:
            assert sentence[language]
            assert not re.search(r"[{}]|nan", sentence[language])
    texts = read_texts(name)
    assert {check.name for check in checks} == set(texts["en"].checks)
    assert re.search(r"[\u4e00-\u9fff]", texts["zh"].claim)


def test_the_catalogue_lists_every_study_and_text_once():
    assert len(set(NAMES)) == len(NAMES) == 18
    texts = {path.stem for path in (ROOT / "app" / "studies" / "texts").glob("*.toml")}
    assert texts == set(NAMES)
    with_study = {
        f"app.studies.claims.{path.stem}"
        for path in (ROOT / "app" / "studies" / "claims").glob("*.py")
        if re.search(r"^STUDY\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert with_study == {module_name(name) for name in NAMES}


def test_a_claim_without_a_check_that_holds_does_not_hold():
    def checks(*holds):
        return [Check("x", is_there, {}) for is_there in holds]

    assert verdict(checks(True, True)) == HOLDS
    assert verdict(checks(True, False)) == IN_PART
    assert verdict(checks(False, False)) == FAILS


def test_facts_leave_the_verdict_to_the_other_checks():
    fact, broken = Check("x", True, {}, is_fact=True), Check("x", False, {}, is_fact=True)
    yes, no = Check("y", True, {}), Check("y", False, {})
    assert verdict([fact, yes]) == HOLDS
    assert verdict([fact, no]) == FAILS
    assert verdict([broken, yes]) == IN_PART
    assert verdict([fact, fact]) == HOLDS
    assert verdict([fact, broken]) == IN_PART


def test_one_seed_gives_numbers_but_no_interval():
    numbers = {arm: {"r2": [0.9]} for arm in ("raw", "products", "hidden")}
    raw = load_study("trapezoid").judge(numbers)[0]
    assert not raw.holds
    assert raw.figures["r2"].endswith("[no interval]")


@pytest.mark.parametrize(
    ("name", "part", "facts"),
    [
        # Only one of two architectures: the bound holds for any network.
        ("no-structure", "two targets, 2+3", ["floor"]),
        ("linear-stack", "stack", ["product"]),
        ("losses", "figures", ["softmax", "figures", "parts"]),
    ],
)
def test_facts_hold_for_numbers_that_are_computed(name, part, facts):
    study = load_study(name)
    computed = {part: study.parts(Effort(SEEDS, True))[part]()}
    holds = {check.name: check.holds for check in study.judge({**CASES[name][0], **computed})}
    assert all(holds[fact] for fact in facts)


def test_the_example_of_the_documentation_is_a_study(tmp_path):
    page = (ROOT / "docs" / "studies.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = [line.removeprefix("   ") for line in block.splitlines()]
    names = {"__name__": "app.studies.claims.my_study", "__package__": "app.studies.claims"}
    exec(compile("\n".join(lines), "my_study.py", "exec"), names)  # noqa: S102
    study = names["STUDY"]
    found = {name: part() for name, part in study.parts(Effort(2, True)).items()}
    assert verdict(study.judge(found)) in VERDICTS
    study.draw(copy.deepcopy(found), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()
