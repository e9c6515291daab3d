"""Claims: signs follow from the numbers, sentences from the signs, and texts are complete."""

import copy
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib.text import Text
from study_numbers import CASES, SEEDS, dead_relu, eight_states, regularization

from app.studies import panels, states
from app.studies.catalogue import NAMES, builds_on, load_study, module_name, read_texts, source_code
from app.studies.chinese_figures import FONT
from app.studies.report import MARKS, sentences, write_readme
from app.studies.signs import HOLDS, NOT_SHOWN, REFUTED, SIGNS
from app.studies.states import compositions, guess_accuracies
from app.studies.study import FIGURES, LANGUAGES, Effort, Result
from app.studies.vocabulary import chinese_words, in_chinese

ROOT = Path(__file__).parent.parent
# The names that Chinese figures write in Latin letters.
LATIN = (
    "ReLU|leaky|parametric|sigmoid|tanh|OR|XOR|L1|L2|R²|nat|SGD|AdaGrad|RMSProp|Adam|MSE|Xavier|"
    "Kaiming|N|dropout|log₁₀"
)


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in NAMES for case in range(len(CASES[name]))]
)
def test_signs_follow_from_the_numbers(name, case):
    numbers, expected = CASES[name][case]
    claims = load_study(name).judge(numbers)
    assert "".join(MARKS[claim.sign] for claim in claims) == expected


@pytest.mark.parametrize("name", NAMES)
def test_sentences_are_complete_in_both_languages(name):
    study, texts = load_study(name), read_texts(name)
    for numbers, _ in CASES[name]:
        claims = study.judge(numbers)
        assert {claim.name for claim in claims} == set(texts["en"].claims)
        for claim, sentence in zip(claims, sentences(name, claims), strict=True):
            for language in LANGUAGES:
                text = sentence[language]
                assert not re.search(r"[{}]|nan|by -\d", f"{text.claim}{text.found}")
                assert text.found
                # A claim about a difference needs a sentence for both directions.
                if "gap" in claim.figures:
                    assert texts[language].claims[claim.name].reversed
                lessons = [bool(text.holds), bool(text.not_shown), bool(text.refuted)]
                assert all(lessons) or not any(lessons)
            assert re.search(r"[\u4e00-\u9fff]", sentence["zh"].claim)


def with_seeds_that_miss(numbers):
    """Keep half of the seeds below the goal."""
    accuracies = np.array(numbers["accuracies"])
    accuracies[:, :, : SEEDS // 2] = 0.5
    return {**numbers, "accuracies": accuracies.tolist()}


def test_a_sentence_names_no_winner_where_both_methods_missed_the_goal():
    numbers = dict(CASES["losses"][0][0])
    for loss in ("cross_entropy", "mse"):
        numbers[loss] = with_seeds_that_miss(numbers[loss])
    claim = load_study("losses").judge(numbers)[2]
    assert claim.sign == NOT_SHOWN
    (found,) = sentences("losses", [claim])
    assert found["en"].found.startswith("Too few seeds get there to say which is faster: ")
    assert "(3/6 missed) steps" in found["en"].found
    assert "(3/6 未到目标) 步" in found["zh"].found


def test_a_sentence_follows_the_direction_of_its_number():
    numbers = CASES["initialization"][2][0]
    claims = load_study("initialization").judge(numbers)
    found = sentences("initialization", claims)
    assert claims[4].name == "gained"
    assert claims[4].sign == REFUTED
    assert found[4]["en"].found.startswith("Kaiming trains better: its loss is lower by 0.4")
    assert found[4]["zh"].found.startswith("Kaiming 更好")


def test_a_difference_that_is_nearly_zero_is_not_rounded_to_zero():
    numbers = CASES["ink"][1][0]
    numbers = {**numbers, "256": {**numbers["256"], "accuracies": [0.9702] * 5 + [0.9705]}}
    numbers["16"] = {**numbers["16"], "accuracies": [0.97] * 6}
    claim = load_study("ink").judge(numbers)[1]
    assert claim.sign == HOLDS
    assert claim.figures["gap"] == "0.02 [0.01, 0.04]"


def test_depth_saves_or_costs_nothing_for_nets_that_have_not_learned_their_states():
    judge = load_study("eight-states").judge
    for deep in (0.9, 0.5):
        claim = judge(eight_states(0.6, deep, trained=0.9))[1]
        assert claim.sign == NOT_SHOWN
        assert claim.figures["deep_trained"].startswith("90.0% [")


def test_a_guess_is_a_coin_where_both_classes_are_equally_frequent():
    xor, conjunction = compositions()[8], compositions()[0]
    assert (xor.mean(), conjunction.mean()) == (0.5, 0.125)
    targets = np.stack([xor, conjunction], axis=1)
    guessed = guess_accuracies(targets, [(0, 3, 5)] * 2)
    assert guessed.tolist() == [0.5, 0.8]


def test_seeds_without_silent_units_say_nothing_about_waking_them():
    numbers = copy.deepcopy(CASES["dead-relu"][0][0])
    large = numbers["relu"]["large"]
    large["woken"] = [0.5, 0.6, 0.5, None, None, None]
    claim = load_study("dead-relu").judge(numbers)[1]
    assert claim.sign == REFUTED
    assert claim.figures["woken"].startswith("53.3%")
    assert claim.figures["seeds"] == "3/6"
    large["woken"] = [None] * SEEDS
    claim = load_study("dead-relu").judge(numbers)[1]
    assert claim.sign == NOT_SHOWN
    (found,) = sentences("dead-relu", [claim])
    assert found["en"].found.endswith(": none. Seeds that have such units: 0/6.")
    assert re.search("无.*0/6。$", found["zh"].found)


def test_a_layer_that_was_not_silent_at_the_start_proves_nothing():
    for first, last in ((0.9, 0.9), (1.0, 0.9)):
        theorem = load_study("dead-relu").judge(dead_relu(0.9, first, last, 0.1))[2]
        assert (theorem.name, theorem.sign) == ("stuck", REFUTED)


def test_digits_decide_about_an_accuracy_whose_seeds_share_them():
    """All seeds agree, but 360 digits are too few to tell 96% from 95%."""
    numbers = copy.deepcopy(CASES["ink"][0][0])
    numbers["256"]["right"] = [float(digit < 346) for digit in range(360)]
    assert load_study("ink").judge(numbers)[0].sign == NOT_SHOWN


def test_each_lesson_of_a_normalization_stands_alone():
    claims = load_study("regularization").judge(CASES["regularization"][0][0])
    for sentence in sentences("regularization", claims)[3:]:
        for language, about in (("en", "reduce"), ("zh", "减轻")):
            text = sentence[language]
            assert all(about in each for each in (text.holds, text.not_shown, text.refuted))


def test_networks_that_have_not_learned_their_digits_show_nothing_about_overfitting():
    for gap in (0.2, 0.9):
        claims = load_study("regularization").judge(regularization(0.6, 0.5, gap, trained=0.2))
        signs = {(claim.name, claim.sign) for claim in claims[2:]}
        assert signs == {("dropout", NOT_SHOWN), ("normalization", NOT_SHOWN)}
        assert claims[-1].figures["trained"].startswith("0.200 [")


@pytest.mark.parametrize("name", NAMES)
def test_the_text_names_the_learning_rate(name):
    code = source_code(name)[1]
    if "train_on_states" in code:
        code += Path(states.__file__).read_text("utf-8")
    rates = re.findall(r'optimizer.learning_rate": ([\d.e-]+)', code)
    for text in read_texts(name).values():
        assert all(f"{float(rate):g}" in text.method for rate in rates)


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


@pytest.mark.parametrize("name", NAMES)
def test_a_study_builds_on_earlier_ones_only_and_its_code_is_at_hand(name):
    assert set(builds_on(name)) <= set(NAMES[: NAMES.index(name)])
    path, code = source_code(name)
    assert (ROOT / path).read_text("utf-8") == code


# The others are as long as these, and alike.
@pytest.mark.parametrize(
    "name",
    [*NAMES[::6], *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in NAMES[::6])],
)
def test_every_label_of_a_chinese_figure_is_chinese(name, tmp_path, monkeypatch):
    found = set()

    def save(figure, path):
        if path.name == "figure-zh.png":
            figure.draw_without_rendering()
            found.update({text.get_text() for text in figure.findobj(Text)})

    monkeypatch.setattr(panels, "save", save)
    load_study(name).draw(copy.deepcopy(CASES[name][0][0]), tmp_path)
    text = re.sub(r"\$[^$]*\$", "", " | ".join(found))
    assert set(re.findall(r"[A-Za-z]\w*", text)) <= set(LATIN.split("|"))
    assert re.search(r"[\u4e00-\u9fff]", text)


def test_figures_are_written_for_screens_and_phones_in_both_languages(tmp_path):
    load_study("ink").draw(CASES["ink"][0][0], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FIGURES)
    widths = {name: int.from_bytes((tmp_path / name).read_bytes()[16:20]) for name in FIGURES}
    assert widths["figure.png"] == 2 * widths["figure-narrow.png"]


def test_the_font_of_chinese_figures_has_their_characters():
    known = set(TTFont(FONT).getBestCmap())
    text = "".join(chinese_words().values())
    assert {letter for letter in text if ord(letter) > 0x2FFF} <= set(map(chr, known))


def test_a_label_is_translated_phrase_by_phrase():
    assert in_chinese("cross entropy,\nlearning rate 3") == "交叉熵, 学习率 3"
    assert in_chinese("2 hidden layers") == "2 个隐藏层"
    assert in_chinese("ReLU") == "ReLU"


def test_the_text_explains_brackets_wherever_there_are_intervals(tmp_path):
    def readme(name, numbers):
        claims = tuple(load_study(name).judge(numbers))
        write_readme(Result(name, claims, seeds=1, quick=False, seconds=1.0, folder=tmp_path))
        return (tmp_path / "README.md").read_text("utf-8")

    flowers = readme("softmax", CASES["softmax"][0][0])
    assert "Numbers in brackets are 95% intervals." in flowers
    assert "方括号内为 95% 置信区间。" in flowers
    areas = readme("trapezoid", {arm: {"r2": [0.9]} for arm in ("raw", "products", "hidden")})
    assert "[no interval]" in areas
    assert "brackets" not in areas
    assert "方括号" not in areas


def test_initial_weights_are_judged_at_one_depth_in_both_modes():
    """What is left of a signal depends on the depth, and so does what a bound on it means."""
    found = load_study("initialization").parts(Effort(1, True))["relu"]()
    assert {len(numbers["activations"]) for numbers in found.values()} == {10}


@pytest.mark.parametrize("name", CASES)
def test_the_text_lists_claims_in_one_form_in_both_languages(name, tmp_path):
    claims = tuple(load_study(name).judge(CASES[name][0][0]))
    write_readme(Result(name, claims, seeds=2, quick=False, seconds=1.0, folder=tmp_path))
    lines = (tmp_path / "README.md").read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    found = sentences(name, claims)
    for language in LANGUAGES:
        written = [[cell.strip() for cell in row[1:]] for row in rows[: len(claims) + 2]]
        assert written[2:] == [[each[language].claim, each[language].found] for each in found]
        rows = rows[len(claims) + 2 :]
    assert not rows
    assert not any(line.startswith("- ") for line in lines)


def test_one_seed_gives_numbers_but_no_interval():
    numbers = {arm: {"r2": [0.9]} for arm in ("raw", "products", "hidden")}
    raw = load_study("trapezoid").judge(numbers)[0]
    assert raw.sign == NOT_SHOWN
    assert raw.figures["r2"].endswith("[no interval]")
    assert sentences("trapezoid", [raw])[0]["zh"].found == "R² 为 0.9000 [无区间]。"


@pytest.mark.parametrize(
    ("name", "part", "theorems"),
    [
        # Only one of two architectures: the bound holds for any network.
        ("no-structure", "two targets, 2+3", ["floor"]),
        ("linear-stack", "stack", ["product"]),
        ("losses", "figures", ["figures", "parts"]),
    ],
)
def test_theorems_hold_for_numbers_that_are_computed(name, part, theorems):
    study = load_study(name)
    computed = {part: study.parts(Effort(SEEDS, True))[part]()}
    claims = study.judge({**CASES[name][0][0], **computed})
    signs = {claim.name: claim.sign for claim in claims if claim.is_theorem}
    assert signs == dict.fromkeys(theorems, HOLDS)


def test_the_example_of_the_documentation_is_a_study(tmp_path):
    page = (ROOT / "docs" / "studies.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = [line.removeprefix("   ") for line in block.splitlines()]
    names = {"__name__": "app.studies.claims.my_study", "__package__": "app.studies.claims"}
    exec(compile("\n".join(lines), "my_study.py", "exec"), names)  # noqa: S102
    study = names["STUDY"]
    found = {name: part() for name, part in study.parts(Effort(2, True)).items()}
    assert all(claim.sign in SIGNS for claim in study.judge(found))
    study.draw(copy.deepcopy(found), tmp_path)
    assert (tmp_path / "figure.png").exists()


def test_the_memory_of_a_study_grows_with_its_seeds_and_not_with_their_square(monkeypatch):
    from app.studies.claims import softmax
    from app.studies.nets import build_replicas
    from app.training.fit import FitResult

    def untrained(replicas, dataset, train):
        model = build_replicas(replicas, dataset, train)
        tracemalloc.start()
        return FitResult(model, [], 0.0, 0.0, None, None, 1)

    monkeypatch.setattr(softmax, "fit_replicas", untrained)
    load_study("softmax").parts(Effort(8, True))["cross validation"]()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6  # the outputs of all 40 nets for the samples of all need three times as much
