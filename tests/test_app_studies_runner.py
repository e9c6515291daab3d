"""Running a study: finished parts are cached; damaged or outdated ones are computed again."""

import hashlib
import json
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from filelock import FileLock
from study_numbers import vanishing

from app.commands.cli import main
from app.errors import StudyError
from app.studies import process_pool, runner
from app.studies.catalogue import NAMES, load_study
from app.studies.runner import StudyObserver, read_result, run_study
from app.studies.signs import HOLDS, NOT_SHOWN
from app.studies.study import FIGURES


@pytest.fixture(scope="module", autouse=True)
def canned():
    """Give `vanishing` canned numbers: these tests are about how results are cached."""

    def parts(effort):
        numbers = vanishing(0.25, 0.2, 0.95, seeds=effort.seeds)
        return {f"{part} layers": lambda part=part: numbers[part] for part in numbers}

    def draw(parts, folder):  # what matplotlib takes seconds for
        for name in FIGURES:
            (folder / name).write_text(f"{name}: {parts}")

    def load(name):
        study = load_study(name)
        return replace(study, parts=parts, draw=draw) if name == "vanishing" else study

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "load_study", load)
        yield


@pytest.fixture(scope="module")
def example(quick_study):
    """A study without randomness, run for real with two seeds."""
    return read_result("worked-example", quick_study("worked-example"))


def test_a_study_writes_numbers_a_figure_and_a_text(example):
    result = example
    assert {claim.sign for claim in result.claims} == {HOLDS}
    written = json.loads((result.folder / "result.json").read_text())
    assert {claim["sign"] for claim in written["claims"]} == {HOLDS}
    assert np.array(written["parts"]["values"]["ONNX"]).shape == (3, 2, 2)
    assert (result.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    text = (result.folder / "README.md").read_text("utf-8")
    assert "| ✓ theorem | ONNX gives every number" in text
    assert "✓ 定理" in text
    assert {path.name for path in result.folder.iterdir()} == {
        ".parts", "README.md", "result.json", *FIGURES
    }  # fmt: skip


def test_a_study_without_randomness_has_one_seed(example):
    assert example.seeds == 1
    assert "repeated" not in (example.folder / "README.md").read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished study. Tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    run_study("vanishing", folder, seeds=2, quick=True)
    return folder


@pytest.fixture
def again(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "studies")
    return tmp_path / "studies"


def parts_run(folder, **options):
    parts = []
    observer = StudyObserver(part_started=lambda _, part: parts.append(part))
    result = run_study("vanishing", folder, observer=observer, **options)
    return parts, result


def interrupt(folder, seeds):
    """Stop the study in its third part."""

    def stop(_, part):
        if part == "tanh, 2 layers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("vanishing", folder, seeds, True, StudyObserver(part_started=stop))


def rewrite(path, change):
    """Change some fields of a result or its parts, and update the checksum."""
    content = {**json.loads(path.read_text()), **change}
    content.pop("sha256")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": digest}))


def test_a_result_with_the_same_settings_is_cached(again):
    before = (again / "vanishing" / "result.json").read_bytes()
    parts, result = parts_run(again, seeds=2, quick=True)
    assert not parts
    assert result.is_cached
    assert (again / "vanishing" / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "options", "note"),
    [
        ({}, {"seeds": 3}, "different settings"),
        ({"key": "other"}, {"seeds": 2}, "the code, a library or Keras' backend has changed"),
        (
            {"key": "other", "version": "0.0.1"},
            {"seeds": 2},
            "from version 0.0.1, and this is 0.1.0",
        ),
    ],
)
def test_a_result_with_other_settings_code_or_version_is_computed_again_with_a_reason(
    change, options, note, again
):
    folder = again / "vanishing"
    for path in (folder / "result.json", *(folder / ".parts").iterdir()):
        rewrite(path, change)
    parts, result = parts_run(again, quick=True, **options)
    assert len(parts) == 6
    assert note in result.note
    assert json.loads((folder / "result.json").read_text())["seeds"] == options["seeds"]


def test_a_result_with_unknown_fields_is_not_read(again):
    rewrite(again / "vanishing" / "result.json", {"claims": [{"name": "of another version"}]})
    assert read_result("vanishing", again) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: text.replace('"sign": "holds"', '"sign": "maybe"', 1),
        lambda text: text.replace('"norms": [', '"norms": 5, "other": [', 1),
        # In short: the others.
        pytest.param(lambda _: "[1]", marks=pytest.mark.slow),
        pytest.param(lambda _: "", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_result_is_written_again(damage, again):
    path = again / "vanishing" / "result.json"
    before = path.read_bytes()
    path.write_text(damage(path.read_text()))
    assert read_result("vanishing", again) is None
    parts, result = parts_run(again, seeds=2, quick=True)
    assert not parts  # they have separate files
    assert result.note == "the earlier result was damaged"
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["figure-zh-narrow.png", "README.md"])
def test_a_damaged_figure_or_text_is_recreated_from_the_numbers(name, again):
    path = again / "vanishing" / name
    before = path.read_bytes()
    for damage in (lambda: path.write_bytes(before[:100]), path.unlink):
        damage()
        parts, result = parts_run(again, seeds=2, quick=True)
        assert (parts, result.is_cached) == ([], True)
        assert path.read_bytes() == before


def test_signs_and_figures_made_by_other_code_are_made_again_from_the_numbers(again):
    path, figure = again / "vanishing" / "result.json", again / "vanishing" / "figure.png"
    written, drawn = json.loads(path.read_text()), figure.read_bytes()
    figure.write_bytes(b"another figure")
    others = b"".join((figure.parent / name).read_bytes() for name in FIGURES)
    outdated = {"drawing": "other", "figures": hashlib.sha256(others).hexdigest(), "claims": []}
    rewrite(path, outdated)
    assert read_result("vanishing", again) is None
    parts, result = parts_run(again, seeds=2, quick=True)
    assert (parts, len(result.claims)) == ([], 3)
    assert (json.loads(path.read_text()), figure.read_bytes()) == (written, drawn)


def test_a_result_has_all_parts_if_its_folder_was_copied_without_hidden_files(again):
    shutil.rmtree(again / "vanishing" / ".parts")
    parts, result = parts_run(again, seeds=2, quick=True)
    assert (parts, result.is_cached, result.note) == ([], True, "")


def test_what_another_program_left_beside_new_figures_is_removed(again):
    (again / "vanishing" / "figure.png").unlink()
    (again / "vanishing" / ".new").mkdir()
    (again / "vanishing" / ".new" / ".DS_Store").touch()
    parts_run(again, seeds=2, quick=True)
    assert (again / "vanishing" / "figure.png").exists()
    assert not (again / "vanishing" / ".new").exists()


def with_parts(monkeypatch, change):
    """Give `vanishing` other parts: `change` takes and returns the canned ones by name."""
    study = runner.load_study("vanishing")
    other = replace(study, parts=lambda effort: change(study.parts(effort)))
    monkeypatch.setattr(
        runner, "load_study", lambda name: other if name == "vanishing" else load_study(name)
    )


def test_parts_run_with_the_defaults_of_keras(tmp_path, monkeypatch):
    found = []

    def watched(parts):
        return {
            name: lambda part=part: found.append(keras.config.floatx()) or part()
            for name, part in parts.items()
        }

    with_parts(monkeypatch, watched)
    keras.config.set_floatx("float64")
    try:
        run_study("vanishing", tmp_path, 2, True)
        assert keras.config.floatx() == "float64"
    finally:
        keras.config.set_floatx("float32")
    assert set(found) == {"float32"}


def test_a_file_that_a_part_lacks_is_not_told_as_one_that_cannot_be_written(tmp_path, monkeypatch):
    def missing():
        raise FileNotFoundError(2, "No such file", "data.csv")

    with_parts(monkeypatch, lambda parts: dict.fromkeys(parts, missing))
    with pytest.raises(StudyError, match="failed: .*data.csv.*. Finished parts are kept."):
        run_study("vanishing", tmp_path, 2, True)


def test_a_result_that_cannot_be_written_is_told_in_one_line(again):
    (again / "vanishing" / "result.json.new").mkdir()
    with pytest.raises(StudyError, match=r"result.json.new cannot be written: .* are kept\."):
        run_study("vanishing", again, 3, True)


def test_parts_of_several_settings_are_cached(again):
    interrupt(again, seeds=3)
    assert len(parts_run(again, seeds=4, quick=True)[0]) == 6
    assert not parts_run(again, seeds=2, quick=True)[0]
    assert parts_run(again, seeds=3, quick=True)[0][0] == "tanh, 2 layers"


def test_damaged_parts_of_an_interrupted_study_are_run_again(tmp_path):
    interrupt(tmp_path, seeds=2)
    (path,) = (tmp_path / "vanishing" / ".parts").iterdir()
    path.write_text(path.read_text().replace('"depth": 2', '"depth": "two"'))
    parts, result = parts_run(tmp_path, seeds=2, quick=True)
    assert len(parts) == 6
    assert len(result.claims) == 3


def test_only_one_process_at_a_time_can_run_a_study(again):
    with (
        FileLock(again / "vanishing" / ".lock"),
        pytest.raises(
            StudyError,
            match="by one process at a time. Received: .*vanishing, which another process",
        ),
    ):
        run_study("vanishing", again, 3, True)


def test_a_study_of_one_seed_is_written_completely(tmp_path):
    result = run_study("vanishing", tmp_path, 1, True)
    kept = result.claims[-1]
    assert kept.sign == NOT_SHOWN
    assert kept.figures["kept"].endswith("[no interval]")
    assert (result.folder / "figure.png").exists()


def test_an_interrupted_study_resumes_at_the_unfinished_part(tmp_path):
    interrupt(tmp_path, seeds=2)
    assert not (tmp_path / "vanishing" / "result.json").exists()
    parts, result = parts_run(tmp_path, seeds=2, quick=True)
    assert parts[0] == "tanh, 2 layers"
    assert len(parts) == 4
    assert len(result.claims) == 3


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_interrupted_rerun_keeps_the_earlier_result(again):
    """An earlier result stays until the new one is complete, even if another version wrote it."""
    for path in (again / "vanishing" / "result.json", *(again / "vanishing" / ".parts").iterdir()):
        rewrite(path, {"key": "other", "version": "0.0.1"})
    before = contents(again)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("vanishing", again, 3, True, StudyObserver(part_started=stop))
    assert contents(again) == before


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt, 130, "run the same command to resume"),
        (StudyError("This must fail. Received: ink."), 2, "This must fail"),
    ],
)
def test_pages_show_the_studies_that_finished_before_a_failure(
    error, status, line, tmp_path, monkeypatch, capsys
):
    def load(name):
        if name == "ink":
            raise error
        return canned_load(name)

    canned_load = runner.load_study
    monkeypatch.setattr(runner, "load_study", load)
    monkeypatch.setattr(process_pool, "available_cores", lambda: 1)
    command = ["study", "run", "vanishing", "ink", "--quick", "--seeds", "2", "-o", str(tmp_path)]
    code, _, err = status_of(command, capsys)
    assert code == status
    assert line in err
    assert 'href="vanishing/index.html"' in (tmp_path / "index.html").read_text("utf-8")
    assert (tmp_path / "vanishing" / "index.html").exists()


def test_a_refuted_theorem_is_shown_on_the_course_page_and_fails_the_command(
    tmp_path, monkeypatch, capsys
):
    numbers = vanishing(0.3, 0.2, 0.95, seeds=2)
    with_parts(monkeypatch, lambda _: {part: lambda part=part: numbers[part] for part in numbers})
    command = ["study", "run", "vanishing", "--quick", "--seeds", "2", "-o", str(tmp_path)]
    code, out, err = status_of(command, capsys)
    assert code == 1
    assert "  ✗ theorem" in out
    assert err == (
        "hornbill: A theorem must hold: only a bug could refute it. "
        "Received: a refuted one in vanishing.\n"
    )
    page = re.sub(
        r"<span lang=.zh.>.*?</span>|<[^>]*>", "", (tmp_path / "index.html").read_text("utf-8")
    )
    assert "✗ theorem" in page


def test_the_remark_on_a_result_does_not_contradict_itself(again, capsys):
    command = ["study", "run", "vanishing", "--quick", "-o", str(again), "--seeds", "2"]
    _, cached, _ = status_of(command, capsys)
    rewrite(again / "vanishing" / "result.json", {"key": "other", "seeds": 3})
    _, written, _ = status_of(command, capsys)
    assert cached.splitlines()[0] == "vanishing (cached: same settings and version)"
    assert written.splitlines()[0] == (
        "vanishing (written again from finished parts: the earlier result has different settings)"
    )


def test_results_under_a_former_study_name_are_kept_and_listed(again, capsys):
    shutil.copytree(again / "vanishing", again / "initialisation")
    before = contents(again / "initialisation")
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, _ = status_of(arguments, capsys)
    assert not code
    assert "not on the page, because no study has this name: initialisation.\n" in out
    assert "Run them again" not in out
    assert contents(again / "initialisation") == before


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(StudyError, match="must be a folder. Received: .*studies, a file."):
        run_study("vanishing", tmp_path / "studies", 2, True)


@pytest.mark.parametrize("seeds", [0, -3, 100_000_000])
def test_numbers_of_seeds_out_of_range_are_refused(seeds, tmp_path):
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
        (["run", "initialisation"], "Did you mean 'initialization'?"),
        (["run"], "Received: neither."),
        (["run", "ink", "--all"], "Received: both."),
    ],
)
def test_a_wrong_command_prints_one_line(arguments, message, capsys):
    code, out, err = status_of(["study", *arguments], capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_list_names_every_claim(capsys):
    code, out, _ = status_of(["study", "list", "--json"], capsys)
    assert not code
    assert [row["name"] for row in json.loads(out)] == list(NAMES)


def test_the_command_prints_the_figures_of_each_claim_under_its_name(again, capsys):
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, _ = status_of([*arguments, "--json"], capsys)
    assert not code
    (found,) = json.loads(out)
    written = json.loads((again / "vanishing" / "result.json").read_text())["claims"]
    names = [(claim["name"], claim["figures"]) for claim in found["claims"]]
    assert names == [(claim["name"], claim["figures"]) for claim in written]


def test_the_command_prints_claims_and_page(again, capsys):
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, _ = status_of(arguments, capsys)
    assert not code
    assert out.startswith("vanishing (cached")
    assert "  ✓ theorem    Through the slopes of n sigmoid layers" in out
    assert (again / "index.html").exists()
    _, out, _ = status_of([*arguments, "--json"], capsys)
    (row,) = json.loads(out)
    assert row["claims"][0]["sign"] == HOLDS
    assert row["claims"][0]["figures"]["held"] == "24/24"


def test_a_study_that_is_left_off_the_page_is_named(again, capsys):
    (again / "ink").mkdir()
    (again / "ink" / "result.json").write_text("{}")
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, _ = status_of(arguments, capsys)
    assert not code
    assert re.search(r"not on the page, .*: ink\. Run them again\.", out)
    page = (again / "index.html").read_text("utf-8")
    assert "no current result</span>" in page
    assert f"<code>hornbill study run ink --quick --output {again}</code>" in page


def test_a_page_that_cannot_be_written_is_reported_after_the_results(again, capsys):
    (again / "index.html").mkdir()
    arguments = ["study", "run", "vanishing", "--quick", "--seeds", "2", "--output", str(again)]
    code, out, err = status_of(arguments, capsys)
    assert code == 2
    assert out.startswith("vanishing")
    assert "index.html cannot be written: " in err
    assert err.count("\n") == 1
    assert {path.name for path in again.iterdir()} == {"vanishing", "index.html"}
