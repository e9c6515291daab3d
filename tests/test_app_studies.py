"""Studies: a verdict follows from the numbers, whatever they are; what is finished is kept."""

import copy
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from app.commands.cli import main
from app.errors import StudyError
from app.evaluation.estimates import difference, is_more_often, mean_estimate, proportion_estimate
from app.studies.catalogue import LANGUAGES, NAMES, load_study, module_name, read_texts
from app.studies.rates import best_pace, epochs_to, saved
from app.studies.report import sentences
from app.studies.runner import Progress, read_result, run_study
from app.studies.study import VERDICTS, Check, Effort, verdict

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


def softmax(*right):
    return {
        "cross validation": {
            "right": [float(flower < count) for count in right for flower in range(50)],
            "classes": np.repeat(range(3), 50),
            "labels": ["setosa", "versicolor", "virginica"],
        }
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
    from app.studies.claims.worked_example import EXPECTED, RUNTIMES

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


def eight_states(few, many, shallow=0.6):
    deep = [around(few)] * 5 + [around(many)] * 2
    trained = {"trained": around(0.9), "guessed": [around(0.55)] * 7}
    return {
        "8": {"accuracies": [around(shallow)] * 7, **trained},
        "2+3": {"accuracies": deep, **trained},
    }


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
        "large": {**case(0.0, large, 0.5), "woken": around(0.0 if large > 0.5 else 0.5)},
        "bad start": {"silent": [[first] * SEEDS, [last] * SEEDS], "accuracies": around(0.1)},
    }
    other = {
        "bad start": case(1.0, woken, 0.1 + (1 - woken)),
        "large": case(0.0, 0.05, 0.9),
    }
    return {"relu": relu, "leaky_relu": other, "prelu": other}


def initialization(apart, starved, stuck, own, kept):
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


def by_rate(values, rates):
    """Losses of all seeds, twice as large at every rate but one, inside the grid."""
    factors = np.full(len(rates), 2.0)
    factors[1] = 1.0
    return (values[:, np.newaxis] * factors)[..., np.newaxis].repeat(SEEDS, 2)


def losses(softmax, nats, apart, slow):
    from app.studies.claims.losses import RATES

    def accuracies(epochs):
        errors = np.where(np.arange(40) >= epochs, 0.05, 0.4)
        return (1 - by_rate(errors, RATES)).tolist()

    figures = {"nats": nats, "bits": nats / np.log(2), "log10": nats / np.log(10)}
    return {
        "figures": {"softmax": softmax, "apart": apart, **figures},
        "cross_entropy": {"accuracies": accuracies(5)},
        "mse": {"accuracies": accuracies(slow)},
    }


def regularization(zeros, size, gap):
    def numbers(test):
        return {"train": around(0.0), "test": around(test), "zeros": around(0.0), "size": around(1)}

    found = {name: numbers(0.5) for name in ("none", "L1", "L2", "none, images")}
    found |= {name: numbers(gap) for name in ("dropout", "batch", "layer", "group")}
    found["instance, images"] = numbers(gap)
    found["L1"]["zeros"], found["L2"]["size"] = around(zeros), around(size)
    return found


def optimizers(**epochs):
    from app.studies.claims.optimizers import OPTIMIZERS, REACHED

    def numbers(name, needed):
        values = np.where(np.arange(1, 41) >= needed, REACHED / 2, 1.0)
        return {"losses": by_rate(values, OPTIMIZERS[name]).tolist()}

    return {name: numbers(name, epochs.get(name, 10)) for name in OPTIMIZERS}


def very_deep(shallow, deep, both, alone):
    at = {"plain": (shallow, deep), "residual, normalized": (0.95, both)}
    at |= dict.fromkeys(("plain, normalized", "residual"), (0.95, alone))
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
    "softmax": (softmax(50, 48, 47), softmax(50, 50, 44), softmax(50, 40, 20)),
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
    "eight-states": (eight_states(0.9, 0.9), eight_states(0.5, 0.95), eight_states(0.4, 0.45, 0.5)),
    "no-structure": (
        no_structure(0.48, FLOOR, FLOOR + 0.001),
        no_structure(0.48, FLOOR, FLOOR + 0.1),
        no_structure(0.9, 0.1, FLOOR + 0.1),
    ),
    "vanishing": (vanishing(0.25, 0.2, 0.95), vanishing(0.25, 0.2, 0.5), vanishing(0.3, 0.9, 0.5)),
    "dead-relu": (
        dead_relu(0.9, 1.0, 1.0, 0.1), dead_relu(0.9, 1.0, 1.0, 1.0), dead_relu(0.1, 1.0, 0.5, 1.0)
    ),
    "initialization": (
        initialization(0, 1e-9, 2.3, 0.1, 0.5),
        initialization(0, 1e-9, 2.3, 0.9, 0.5),
        initialization(0.1, 0.5, 1.0, 0.1, 1e-3),
    ),
    "losses": (
        losses(SOFTMAX, 0.35667, 1e-7, 20),
        losses([0.9, 0.1, 0.0], 0.35667, 1e-7, 20),
        losses([0.9, 0.1, 0.0], 0.4, 1.0, 3),
    ),
    "regularization": (
        regularization(0.6, 0.5, 0.2), regularization(0.6, 0.5, 0.9), regularization(0.0, 1.5, 0.9)
    ),
    "optimizers": (
        optimizers(gradient_descent=30, sgd=20, momentum=12, adam=5),
        optimizers(gradient_descent=30),
        optimizers(),
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
        f"app.studies.claims.{path.stem}"
        for path in (ROOT / "app" / "studies" / "claims").glob("*.py")
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
    assert proportion_estimate(0, 20).high == pytest.approx(0.1684, abs=1e-4)
    assert f"{proportion_estimate(20, 20):.2f}" == "1.00 [0.83, 1.00]"


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
        ".parts", "README.md", "figure.png", "result.json"
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


def interrupt(folder, seeds):
    """Stop the study in its third part."""

    def stop(_, part):
        if part == "tanh, 2 layers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("vanishing", folder, seeds, True, Progress(begin_part=stop))


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
    folder = again / "vanishing"
    for path in (folder / "result.json", *(folder / ".parts").iterdir()):
        write_as_ours(path, change)
    parts, result = parts_run(again, quick=True, **options)
    assert len(parts) == 6
    assert note in result.note
    assert json.loads((folder / "result.json").read_text())["seeds"] == options["seeds"]


def test_a_result_with_other_fields_is_none(again):
    write_as_ours(again / "vanishing" / "result.json", {"checks": [{"name": "of another version"}]})
    assert read_result("vanishing", again) is None


def test_a_study_without_chance_has_one_seed(tmp_path):
    result = run_study("worked-example", tmp_path, 40)
    assert result.seeds == 1
    assert "repeated" not in (result.folder / "README.md").read_text()


def write_as_ours(path, change):
    content = {**json.loads(path.read_text()), **change}
    content.pop("sha256")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": digest}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: text.replace('"holds": true', '"holds": "maybe"', 1),
        lambda text: text.replace('"norms": [', '"norms": 5, "other": [', 1),
        lambda _: "[1]",
        lambda _: "",
    ],
)
def test_a_damaged_result_is_written_anew(damage, again):
    path = again / "vanishing" / "result.json"
    before = path.read_bytes()
    path.write_text(damage(path.read_text()))
    assert read_result("vanishing", again) is None
    parts, result = parts_run(again, seeds=2, quick=True)
    assert not parts  # they are kept apart
    assert result.note == "its result was damaged"
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["figure.png", "README.md"])
def test_a_damaged_figure_or_text_is_made_anew_from_the_numbers(name, again):
    path = again / "vanishing" / name
    before = path.read_bytes()
    for damage in (lambda: path.write_bytes(before[:100]), path.unlink):
        damage()
        parts, result = parts_run(again, seeds=2, quick=True)
        assert (parts, result.is_kept) == ([], True)
        assert path.read_bytes() == before


def test_other_settings_leave_what_was_run_and_what_was_begun(again):
    interrupt(again, seeds=3)
    assert len(parts_run(again, seeds=4, quick=True)[0]) == 6
    assert not parts_run(again, seeds=2, quick=True)[0]
    assert parts_run(again, seeds=3, quick=True)[0][0] == "tanh, 2 layers"


def test_damaged_parts_of_an_interrupted_study_are_run_anew(tmp_path):
    interrupt(tmp_path, seeds=2)
    (path,) = (tmp_path / "vanishing" / ".parts").iterdir()
    path.write_text(path.read_text().replace('"depth": 2', '"depth": "two"'))
    parts, result = parts_run(tmp_path, seeds=2, quick=True)
    assert len(parts) == 6
    assert result.verdict in VERDICTS


def test_one_process_at_a_time_runs_a_study(again):
    from filelock import FileLock

    with (
        FileLock(again / "vanishing" / ".lock"),
        pytest.raises(StudyError, match="by one process at a time. Received: .*vanishing"),
    ):
        run_study("vanishing", again, 3, True)


def test_one_seed_is_enough_for_numbers_but_for_no_interval():
    numbers = {arm: {"r2": [0.9]} for arm in ("raw", "products", "hidden")}
    raw = load_study("trapezoid").judge(numbers)[0]
    assert not raw.holds
    assert raw.figures["r2"].endswith("[no interval]")


def test_a_study_of_one_seed_is_written_whole(tmp_path):
    result = run_study("vanishing", tmp_path, 1, True)
    kept = result.checks[-1]
    assert not kept.holds
    assert kept.figures["kept"].endswith("[no interval]")
    assert (result.folder / "figure.png").exists()


def test_no_loss_on_two_targets_is_below_their_entropy():
    study = load_study("no-structure")
    parts = study.parts(Effort(2, True))
    trained = {name: part() for name, part in parts.items() if name.startswith("two targets")}
    assert len(trained) == 2
    checks = study.judge({**CASES["no-structure"][0], **trained})
    (floor,) = [check for check in checks if check.name == "floor"]
    assert floor.holds


def test_an_interrupted_study_goes_on_where_it_was(tmp_path):
    interrupt(tmp_path, seeds=2)
    assert not (tmp_path / "vanishing" / "result.json").exists()
    parts, result = parts_run(tmp_path, seeds=2, quick=True)
    assert parts[0] == "tanh, 2 layers"
    assert len(parts) == 4
    assert result.verdict in VERDICTS


def test_an_interrupted_rerun_leaves_the_result_that_was_there(again):
    before = (again / "vanishing" / "result.json").read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("vanishing", again, 3, True, Progress(begin_part=stop))
    assert (again / "vanishing" / "result.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(StudyError, match="must be a folder. Received: .*studies, a file."):
        run_study("vanishing", tmp_path / "studies", 2, True)


@pytest.mark.parametrize("seeds", [0, -3, 100_000_000])
def test_seeds_that_cannot_be_are_refused(seeds, tmp_path):
    with pytest.raises(StudyError, match=f"seeds must be from 1 to 200. Received: seeds={seeds}."):
        run_study("ink", tmp_path, seeds)
    assert not list(tmp_path.iterdir())


def status_of(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "xorlimit"], "Received: 'xorlimit'. Did you mean 'xor-limit'?"),
        (["run", "vanishing", "--seeds", "0"], "Received: seeds=0."),
        (
            ["run", "vanishing", "--seeds", "few"],
            "unable to parse string as an integer. Received: 'few'.",
        ),
        (["run", "xor"], "Did you mean 'xor-limit'?"),
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


def test_a_study_that_cannot_be_on_the_page_is_named(again, capsys):
    (again / "ink").mkdir()
    (again / "ink" / "result.json").write_text("{}")
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, _ = status_of(arguments, capsys)
    assert not code
    assert "not on the page, damaged or of another version: ink." in out
    assert 'id="ink"' not in (again / "index.html").read_text("utf-8")


def test_a_page_that_cannot_be_written_is_a_line_after_the_results(again, capsys):
    (again / "index.html").mkdir()
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, err = status_of(arguments, capsys)
    assert code == 2
    assert out.startswith("vanishing: ")
    assert "The page of studies must be writable. Received: " in err
    assert err.count("\n") == 1
    assert {path.name for path in again.iterdir()} == {"vanishing", "index.html"}


def test_what_mathematics_decides_leaves_the_verdict_to_the_rest():
    fact, broken = Check("x", True, {}, is_fact=True), Check("x", False, {}, is_fact=True)
    yes, no = Check("y", True, {}), Check("y", False, {})
    assert verdict([fact, yes]) == HOLDS
    assert verdict([fact, no]) == FAILS
    assert verdict([broken, yes]) == IN_PART
    assert verdict([fact, fact]) == HOLDS
    assert verdict([fact, broken]) == IN_PART


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(6, 0, True), (5, 0, False), (20, 12, True), (20, 16, False), (4, 4, False)],
)
def test_pairs_are_compared_by_the_exact_test(first, second, expected):
    found = [[seed < count for seed in range(20)] for count in (first, second)]
    assert is_more_often(*found) == expected


RATES = (0.1, 1.0, 10.0)
# Of two seeds after each epoch: at the second rate the goal is reached first.
PACES = np.array([
    [[1.0, 1.0], [4.0, 4.0], [9.0, 9.0]],
    [[0.5, 0.5], [0.2, 0.4], [9.0, 9.0]],
    [[0.4, 0.5], [0.1, 0.1], [np.nan, 9.0]],
])  # fmt: skip


def test_a_method_is_judged_at_the_rate_that_reaches_the_goal_soonest():
    pace = best_pace(RATES, PACES, goal=0.25, first=1)
    assert (pace.rate, pace.is_inside, pace.missed) == (1.0, True, 0)
    np.testing.assert_allclose(pace.needed, [2 - 0.05 / 3.8, 2.5])
    assert str(pace) == "2.2"
    assert best_pace(RATES, PACES, goal=2.0, first=1).rate == 0.1


def test_where_no_rate_reaches_the_goal_the_one_of_least_loss_stands_for_the_method():
    assert best_pace(RATES, PACES, goal=0.01).rate == 1.0


def test_of_a_goal_that_was_missed_no_more_is_said_than_is_known():
    paces = np.concatenate([PACES] * 5, axis=2)
    slow = best_pace(RATES, paces + (np.arange(10) < 6), goal=0.25)
    assert str(slow) == "> 2 (6/10)"
    fast = best_pace(RATES, paces, goal=0.25)
    is_sure, text = saved(fast, slow)
    assert is_sure
    assert text.startswith("≥ 0.5 [0.1, 0.8]")
    assert not saved(slow, fast)[0]
    edge = best_pace(RATES[:2], paces[:, :2], goal=0.25)
    assert not edge.is_inside
    assert not saved(edge, slow)[0]


def test_between_epochs_a_loss_falls_along_a_straight_line():
    curves = np.array([[1.0], [0.5], [0.5]])
    for goal, expected in ((0.75, 1.5), (0.2, 3.0), (2.0, 1.0)):
        np.testing.assert_allclose(epochs_to(curves, goal, 1), [expected])


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
    names = {"__name__": "app.studies.claims.my_study", "__package__": "app.studies.claims"}
    exec(compile("\n".join(lines), "my_study.py", "exec"), names)  # noqa: S102
    study = names["STUDY"]
    found = {name: part() for name, part in study.parts(Effort(3, True)).items()}
    assert verdict(study.judge(found)) in VERDICTS
    study.draw(copy.deepcopy(found), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()
