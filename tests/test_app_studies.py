"""Studies: a verdict follows from the numbers, whatever they are; what is finished is kept."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from app.errors import StudyError
from app.studies.catalogue import LANGUAGES, NAMES, load_study, module_name, read_texts
from app.studies.estimates import difference, mean_estimate, share_estimate
from app.studies.running import Progress, read_result, run_study
from app.studies.study import VERDICTS, Check, Effort, verdict
from app.studies.writing import sentences

ROOT = Path(__file__).parent.parent
HOLDS, IN_PART, FAILS = VERDICTS
SEEDS = 6


def around(value, spread=1e-3):
    """Measurements of six seeds near a value."""
    return [value + spread * step for step in (-1, 1, -0.5, 0.5, 0.2, -0.2)]


def curves(last, epochs=3):
    """Losses of six seeds that end near a value."""
    return [around(last + 1.0)] * (epochs - 1) + [around(last)]


def trapezoid(raw, products, hidden):
    return {
        "raw": {"r2": around(raw)},
        "products": {"r2": around(products, 1e-6)},
        "hidden": {"r2": around(hidden)},
    }


def linear_stack(largest, stack, bent, tanh):
    return {
        "single": {"losses": curves(0.05)},
        "stack": {"losses": curves(stack), "collapsed": [largest] * SEEDS},
        "tanh": {"losses": curves(tanh), "collapsed": around(bent)},
    }


def depth_or_width(*deep):
    return {
        f"{width}, {depth}": {
            "width": width,
            "depth": depth,
            "hidden": [width] * depth,
            "weights": 75 * width + 10,
            "accuracies": around(0.8 if depth == 1 else value),
        }
        for width, value in zip((5, 10), deep, strict=True)
        for depth in (1, 2)
    }


def worked_example(*changes):
    from app.studies.worked_example import EXPECTED, RUNTIMES

    layers = np.array(EXPECTED).transpose(1, 0, 2)
    found = {name: layers + change for name, change in zip(RUNTIMES, changes, strict=True)}
    return {"values": {name: value.tolist() for name, value in found.items()}}


def xor_limit(logistic, distances, cascade):
    solved = {"logistic": logistic, "distances": distances, "cascade": cascade}
    return {
        name: {"right": [1.0] * count + [0.5] * (SEEDS - count)} for name, count in solved.items()
    }


def gates(or_, xor, two, four, at_work, size):
    def solved(count):
        return [True] * count + [False] * (SEEDS - count)

    plain = {"OR": solved(or_), "XOR": solved(xor)}
    return {
        "number": plain,
        "bits": plain,
        "hidden 2": {"OR": solved(6), "XOR": solved(two)},
        "hidden 4": {"XOR": solved(four), "at work": around(4, 0.1), "weights": around(5.0)},
        "hidden 4, L2": {
            "XOR": solved(6),
            "at work": around(at_work, 0.1),
            "weights": around(size),
        },
    }


def eight_states(few, many):
    deep = [around(few)] * 5 + [around(many)] * 2
    return {"8": {"accuracies": [around(0.6)] * 7}, "2+3": {"accuracies": deep}}


def no_structure(deep, least, last):
    return {
        "random, 8": {"accuracies": around(0.48)},
        "random, 2+3": {"accuracies": around(deep)},
        "two targets, 8": {"losses": [around(least, 0), around(last)]},
        "two targets, 2+3": {"losses": [around(least, 0), around(last)]},
    }


def vanishing(slope, sigmoid, relu):
    def numbers(activation, depth, factor):
        steps = np.arange(depth, 0, -1)[:, np.newaxis]
        spread = np.array(around(1.0, 1e-4))
        return {
            "activation": activation,
            "depth": depth,
            "norms": (factor**steps * spread).tolist(),
            "shrunk": np.repeat(slope ** steps.astype(float), SEEDS, axis=1).tolist(),
        }

    return {
        f"{name}, {depth}": numbers(name, depth, factor)
        for name, factor in (("sigmoid", sigmoid), ("tanh", 0.6), ("relu", relu))
        for depth in (2, 10)
    }


def dead_relu(large, first, last, woken):
    def case(start, end, accuracy):
        return {"silent": [around(start, 0), around(end)], "accuracies": around(accuracy)}

    relu = {
        "suitable": case(0.0, 0.1, 0.9),
        "large": case(0.0, large, 0.5),
        "bad start": {"silent": [[first] * SEEDS, [last] * SEEDS], "accuracies": around(0.1)},
    }
    other = {"bad start": case(1.0, woken, 0.1 + (1 - woken))}
    return {"relu": relu, "leaky_relu": other, "prelu": other}


def initialisation(apart, starved, stuck, own, kept):
    def numbers(last, ratio=1.0):
        squares = [around(1.0), (np.array(around(1.0)) * ratio).tolist()]
        return {"losses": curves(last), "activations": squares, "apart": [apart] * SEEDS}

    def activation(better, worse):
        return {
            "zeros": numbers(2.3),
            "normal": numbers(stuck, starved),
            better: numbers(own, kept),
            worse: numbers(0.5),
        }

    return {
        "tanh": activation("xavier_normal", "kaiming_normal"),
        "relu": activation("kaiming_normal", "xavier_normal"),
    }


def losses(softmax, nats, apart, slow):
    from app.studies.losses import RATES

    def accuracies(epochs):
        reached = np.arange(40)[:, np.newaxis, np.newaxis] >= epochs
        return np.where(reached, 0.95, 0.5).repeat(len(RATES), 1).repeat(SEEDS, 2).tolist()

    figures = {"nats": nats, "bits": nats / np.log(2), "log10": nats / np.log(10)}
    return {
        "figures": {"softmax": softmax, "apart": apart, **figures},
        "cross_entropy": {"accuracies": accuracies(5)},
        "mse": {"accuracies": accuracies(slow)},
    }


def regularisation(zeros, size, gap):
    def numbers(test):
        return {"train": around(0.0), "test": around(test), "zeros": around(0.0), "size": around(1)}

    found = {name: numbers(0.5) for name in ("none", "L1", "L2", "none, images")}
    found |= {name: numbers(gap) for name in ("dropout", "batch", "layer", "group")}
    found["instance, images"] = numbers(gap)
    found["L1"]["zeros"], found["L2"]["size"] = around(zeros), around(size)
    return found


def optimisers(**epochs):
    from app.studies.optimisers import OPTIMISERS, REACHED

    def numbers(needed):
        reached = np.arange(1, 41)[:, np.newaxis, np.newaxis] >= needed
        values = np.where(reached, REACHED / 2, 1.0)
        return {"losses": values.repeat(5, 1).repeat(SEEDS, 2).tolist()}

    return {name: numbers(epochs.get(name, 10)) for name in OPTIMISERS}


def very_deep(shallow, deep, both, alone):
    at = {"plain": (shallow, deep), "residual, normalised": (0.95, both)}
    at |= dict.fromkeys(("plain, normalised", "residual"), (0.95, alone))
    return {
        f"{arm}, {depth} layers": {"arm": arm, "depth": depth, "accuracies": around(accuracy)}
        for arm, pair in at.items()
        for depth, accuracy in zip((10, 100), pair, strict=True)
    }


def abstraction(*layers):
    rows = np.stack([around(value) for value in layers], axis=1)
    return {f"seed {seed}": {"accuracies": row.tolist()} for seed, row in enumerate(rows)}


def ink(small, large):
    confusion = np.eye(10, dtype=int).tolist()
    return {
        "16": {"accuracies": around(small), "confusion": confusion},
        "256": {"accuracies": around(large), "confusion": confusion},
    }


FLOOR = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
SOFTMAX = [0.8789, 0.1189, 0.0022]
# Numbers that must give `holds`, `holds in part` and `does not hold`.
CASES = {
    "trapezoid": (
        trapezoid(0.9, 1.0, 0.999), trapezoid(0.9, 1.0, 0.9), trapezoid(0.995, 0.9, 0.9)
    ),
    "softmax": tuple(
        {"cross validation": {"accuracies": around(accuracy)}} for accuracy in (0.97, 0.9, 0.3)
    ),
    "linear-stack": (
        linear_stack(1e-7, 0.05, 0.5, 0.01),
        linear_stack(1e-7, 0.05, 0.0, 0.05),
        linear_stack(1e-3, 0.2, 0.0, 0.2),
    ),
    "depth-or-width": (
        depth_or_width(0.9, 0.9), depth_or_width(0.7, 0.9), depth_or_width(0.8, 0.7)
    ),
    "worked-example": (
        worked_example(0, 0.004, -0.004), worked_example(0, 0, 0.01), worked_example(1, 1, 1)
    ),
    "xor-limit": (xor_limit(0, 6, 6), xor_limit(0, 6, 0), xor_limit(1, 5, 1)),
    "gates": (
        gates(6, 0, 0, 6, 2, 3.0), gates(6, 0, 6, 6, 4, 3.0), gates(5, 1, 6, 6, 4, 5.0)
    ),
    "eight-states": (eight_states(0.9, 0.9), eight_states(0.5, 0.95), eight_states(0.5, 0.6)),
    "no-structure": (
        no_structure(0.48, FLOOR, FLOOR + 0.001),
        no_structure(0.9, FLOOR, FLOOR + 0.1),
        no_structure(0.9, 0.1, FLOOR + 0.1),
    ),
    "vanishing": (vanishing(0.25, 0.2, 0.95), vanishing(0.25, 0.2, 0.5), vanishing(0.3, 0.9, 0.5)),
    "dead-relu": (
        dead_relu(0.9, 1.0, 1.0, 0.1), dead_relu(0.9, 1.0, 1.0, 1.0), dead_relu(0.1, 1.0, 0.5, 1.0)
    ),
    "initialisation": (
        initialisation(0, 1e-9, 2.3, 0.1, 0.5),
        initialisation(0, 1e-9, 2.3, 0.9, 0.5),
        initialisation(0.1, 0.5, 1.0, 0.1, 1e-3),
    ),
    "losses": (
        losses(SOFTMAX, 0.35667, 1e-7, 20),
        losses(SOFTMAX, 0.35667, 1e-7, 5),
        losses([0.9, 0.1, 0.0], 0.4, 1.0, 3),
    ),
    "regularisation": (
        regularisation(0.6, 0.5, 0.2), regularisation(0.6, 0.5, 0.9), regularisation(0.0, 1.5, 0.9)
    ),
    "optimisers": (
        optimisers(gradient_descent=30, sgd=20, momentum=12, adam=5),
        optimisers(gradient_descent=30),
        optimisers(),
    ),
    "very-deep": (
        very_deep(0.95, 0.1, 0.95, 0.3),
        very_deep(0.95, 0.1, 0.5, 0.3),
        very_deep(0.5, 0.5, 0.5, 0.95),
    ),
    "abstraction": (
        abstraction(0.8, 0.85, 0.9, 0.95, 0.99),
        abstraction(0.8, 0.9, 0.85, 0.9, 0.95),
        abstraction(0.9, 0.9, 0.9, 0.9, 0.9),
    ),
    "ink": (ink(0.9, 0.97), ink(0.97, 0.97), ink(0.9, 0.9)),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("expected", VERDICTS)
def test_a_verdict_follows_from_the_numbers(name, expected):
    numbers = CASES[name][VERDICTS.index(expected)]
    assert verdict(load_study(name).judge(numbers)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_whole_in_both_languages(name):
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
        f"app.studies.{path.stem}"
        for path in (ROOT / "app" / "studies").glob("*.py")
        if re.search(r"^STUDY\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert with_study == {module_name(name) for name in NAMES}


def test_no_interval_is_known_of_one_measurement():
    estimate = mean_estimate([0.5])
    assert estimate.value == 0.5
    assert (estimate.low, estimate.high) == (-np.inf, np.inf)
    assert not difference([0.9], [0.1]).low > 0
    assert not mean_estimate([1.0, np.nan]).low > 0


def test_intervals_are_those_of_the_textbook():
    estimate = mean_estimate([1.0, 2.0, 3.0, 4.0])
    assert estimate.value == 2.5
    assert estimate.high - estimate.value == pytest.approx(3.182 * np.sqrt(5 / 3) / 2, rel=1e-3)
    assert share_estimate(0, 20).high == pytest.approx(0.1684, abs=1e-4)
    assert f"{share_estimate(20, 20):.2f}" == "1.00 [0.83, 1.00]"


def test_a_study_writes_numbers_a_figure_and_a_text(tmp_path):
    result = run_study("worked-example", tmp_path)
    assert result.verdict == HOLDS
    written = json.loads((result.folder / "result.json").read_text())
    assert written["verdict"] == HOLDS
    assert np.array(written["parts"]["values"]["ONNX"]).shape == (3, 2, 2)
    assert (result.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    text = (result.folder / "README.md").read_text("utf-8")
    assert "Verdict: holds" in text
    assert "成立。**" in text
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "README.md", "figure.png", "result.json"
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a study that takes seconds. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    run_study("vanishing", folder, seeds=2, quick=True)
    return folder


@pytest.fixture
def again(finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "studies")
    return tmp_path / "studies"


def parts_run(folder, **options):
    parts = []
    progress = Progress(begin_part=lambda _, part: parts.append(part))
    result = run_study("vanishing", folder, progress=progress, **options)
    return parts, result


def test_a_result_of_the_same_settings_is_kept(again):
    before = (again / "vanishing" / "result.json").read_bytes()
    parts, result = parts_run(again, seeds=2, quick=True)
    assert not parts
    assert result.is_kept
    assert (again / "vanishing" / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "options", "note"),
    [
        ({}, {"seeds": 3}, "other settings"),
        ({"key": "other"}, {"seeds": 2}, "an earlier state"),
        ({"key": "other", "version": "0.0.1"}, {"seeds": 2}, "of version 0.0.1, this is 0.1.0"),
    ],
)
def test_another_result_is_run_anew_and_it_is_said(change, options, note, again):
    path = again / "vanishing" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    parts, result = parts_run(again, quick=True, **options)
    assert len(parts) == 6
    assert note in result.note
    assert json.loads(path.read_text())["seeds"] == options["seeds"]


def test_a_damaged_result_is_none(again):
    (again / "vanishing" / "result.json").write_text('{"key": 1')
    assert read_result("vanishing", again) is None
    assert parts_run(again, seeds=2, quick=True)[0]


def test_an_interrupted_study_goes_on_where_it_was(tmp_path):
    def stop(_, part):
        if part == "tanh, 2 layers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("vanishing", tmp_path, 2, True, Progress(begin_part=stop))
    assert not (tmp_path / "vanishing" / "result.json").exists()
    parts, result = parts_run(tmp_path, seeds=2, quick=True)
    assert parts[0] == "tanh, 2 layers"
    assert len(parts) == 4
    assert result.verdict in VERDICTS
    assert not (tmp_path / "vanishing" / "unfinished.json").exists()


def test_an_interrupted_rerun_leaves_the_result_that_was_there(again):
    before = (again / "vanishing" / "result.json").read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("vanishing", again, 3, True, Progress(begin_part=stop))
    assert (again / "vanishing" / "result.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(StudyError, match="A study's folder must be writable. Received: .*studies"):
        run_study("vanishing", tmp_path / "studies", 2, True)


def test_seeds_below_one_are_refused(tmp_path):
    with pytest.raises(StudyError, match="seeds must be at least 1. Received: seeds=0."):
        run_study("ink", tmp_path, 0)
    assert not list(tmp_path.iterdir())


def status_of(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "xorlimit"], "Received: 'xorlimit'. Did you mean 'xor-limit'?"),
        (["run", "vanishing", "--seeds", "0"], "--seeds"),
        (["run"], "Received: neither."),
        (["run", "ink", "--all"], "Received: both."),
    ],
)
def test_a_wrong_command_is_a_line(arguments, message, capsys):
    code, out, err = status_of(["study", *arguments], capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_list_names_every_claim(capsys):
    code, out, _ = status_of(["study", "list", "--json"], capsys)
    assert not code
    assert [row["name"] for row in json.loads(out)] == list(NAMES)


def test_the_command_prints_verdict_checks_and_page(again, capsys):
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, _ = status_of(arguments, capsys)
    assert not code
    assert out.startswith("vanishing: ")
    assert "kept" in out
    assert (again / "index.html").exists()
    _, out, _ = status_of([*arguments, "--json"], capsys)
    (row,) = json.loads(out)
    assert row["verdict"] in VERDICTS
    assert row["checks"][0]["held"] == "24/24"


def test_checks_without_one_that_holds_do_not_hold():
    def checks(*holds):
        return [Check("x", is_there, {}) for is_there in holds]

    assert verdict(checks(True, True)) == HOLDS
    assert verdict(checks(True, False)) == IN_PART
    assert verdict(checks(False, False)) == FAILS


def test_the_example_of_the_documentation_is_a_study(tmp_path):
    page = (ROOT / "docs" / "studies.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = [line.removeprefix("   ") for line in block.splitlines()]
    names = {"__name__": "app.studies.my_study", "__package__": "app.studies"}
    exec(compile("\n".join(lines), "my_study.py", "exec"), names)  # noqa: S102
    study = names["STUDY"]
    found = {name: part() for name, part in study.parts(Effort(3, True)).items()}
    assert verdict(study.judge(found)) in VERDICTS
    study.draw(copy.deepcopy(found), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()
