"""The command line: what it prints, its exit status, its one-line errors."""

import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


@pytest.fixture
def digit_file(images, tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(images[0]).resize((120, 90)).save(path)
    return path


def test_train_export_verify_and_predict_work_in_sequence(run, tmp_path):
    arguments = ["--set", "epochs=1", "--no-figures", "--output", tmp_path / "runs"]
    status, output, error = run("train", "softmax", *arguments)
    assert status == 0
    assert "epoch 1/1" in error
    folder = output.split("next: hornbill export ")[1].strip()
    status, output, _ = run(
        *["export", folder, "--output", tmp_path / "dist", "--name", "net", "--int8", "never"]
    )
    assert status == 0
    assert "next: hornbill verify" in output
    status, output, _ = run("verify", tmp_path / "dist" / "net")
    assert status == 0
    assert [line.split()[:2] for line in output.splitlines()[:3]] == [
        ["PASS", "files"],
        ["PASS", "contract"],
        ["PASS", "behavior"],
    ]
    flowers = tmp_path / "flowers.csv"
    columns = json.loads((tmp_path / "dist" / "net" / "1" / "manifest.json").read_text())["columns"]
    flowers.write_text(",".join(columns) + "\n5.1,3.5,1.4,0.2\n")
    status, output, _ = run("predict", tmp_path / "dist" / "net", flowers)
    assert status == 0
    assert str(flowers) in output


def test_train_prints_one_json_object(run, tmp_path):
    arguments = ["--set", "epochs=2", "--no-figures", "--output", tmp_path, "--seed", 3]
    status, output, error = run("train", "softmax", "--json", *arguments)
    assert (status, error) == (0, "")
    found = json.loads(output)
    assert found["metrics"].keys() == {"train", "validation", "test"}
    assert found["notes"] == []


def test_the_json_object_of_train_has_the_notes(run, tmp_path):
    idle = ["--set", "optimizer.name=sgd", "--set", "optimizer.momentum=0.3"]
    arguments = [*idle, "--set", "epochs=1", "--no-figures", "--output", tmp_path]
    status, output, error = run("train", "softmax", "--json", *arguments)
    assert (status, error) == (0, "")
    (note,) = json.loads(output)["notes"]
    assert note.startswith("optimizer.momentum=0.3 has no effect with optimizer.name=sgd: ")


def test_an_export_is_suggested_only_where_it_is_possible(run, tmp_path):
    net = "import keras\n\n\ndef net(num_classes):\n    layer = keras.layers.Dense(num_classes{})\n"
    end = "    return keras.Sequential([keras.Input((4,)), layer])\n"
    for name, dtype in (("single", ""), ("double", ', dtype="float64"')):
        (tmp_path / f"{name}.py").write_text(net.format(dtype) + end)
        arguments = ["--data", "iris", "--set", "epochs=1", "--no-figures", "-o", tmp_path / "runs"]
        status, output, error = run("train", f"{tmp_path / name}.py:net", *arguments)
        assert status == 0
        is_possible = name == "single"
        assert ("hornbill export" in output + error) == is_possible
        assert ("warning: the model cannot be exported. Layers must" in output) != is_possible


def test_quiet_prints_nothing(run, tmp_path):
    arguments = ["--quiet", "--no-figures", "--set", "epochs=1", "--output", tmp_path]
    assert run("train", "softmax", *arguments) == (0, "", "")


def test_export_prints_one_json_object(run, softmax_run, tmp_path):
    status, output, error = run(
        "export", softmax_run.folder, "-o", tmp_path, "--json", "--int8", "never"
    )
    assert (status, error) == (0, "")
    assert json.loads(output)["parity"] <= 1e-5


def test_predict_prints_one_json_object_per_line(run, bundle, digit_file):
    status, output, _ = run("predict", bundle, digit_file, digit_file, "--json")
    assert status == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert len(lines) == 2
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert lines[0]["label"] == max(lines[0]["probabilities"], key=lines[0]["probabilities"].get)


@pytest.fixture
def mixed_files(digit_file, tmp_path):
    """A digit among a text, a damaged image and a name without a file; the reasons of these."""
    wrong = [tmp_path / name for name in ("notes.png", "cut.png", "gone.png")]
    wrong[0].write_text("no image")
    wrong[1].write_bytes(digit_file.read_bytes()[:900])
    reasons = [
        f"{wrong[0]} cannot be read as an image, such as PNG or JPEG.",
        f"{wrong[1]} cannot be read as an image, such as PNG or JPEG: its end is missing.",
        f"{wrong[2]} does not exist.",
    ]
    return [wrong[0], digit_file, *wrong[1:]], reasons


@pytest.mark.parametrize("options", [[], ["--json"], ["--features"], ["--features", "--json"]])
def test_images_that_cannot_be_read_are_named_and_the_others_predicted(
    options, run, bundle, digit_file, mixed_files
):
    files, reasons = mixed_files
    status, output, error = run("predict", bundle, *files, *options)
    _, alone, notes = run("predict", bundle, digit_file, *options)
    assert (status, output) == (1, alone)
    assert error == "".join(f"failed: {reason}\n" for reason in reasons) + notes
    if "--json" in options:
        assert json.loads(output)["file"] == str(digit_file)


def test_quiet_names_the_images_that_cannot_be_read_too(run, bundle, mixed_files):
    files, reasons = mixed_files
    errors = "".join(f"failed: {reason}\n" for reason in reasons)
    assert run("predict", bundle, *files, "--quiet") == (1, "", errors)


def test_images_of_which_none_can_be_read_are_one_error(run, bundle, mixed_files):
    files, reasons = mixed_files
    status, output, error = run("predict", bundle, files[0], *files[2:])
    assert (status, output) == (2, "")
    named = "; ".join(reason.rstrip(".") for reason in reasons)
    assert error == f"hornbill: There are 3 problems: {named}.\n"


def test_images_beside_arrays_and_tables_that_cannot_be_read_are_named(
    run, bundle, digit_file, mixed_files, images, tmp_path
):
    files, reasons = mixed_files
    array, table = tmp_path / "images.npy", tmp_path / "list.csv"
    np.save(array, images[:2])
    table.write_text(f"image\n{digit_file.name}\nlost.png\n")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7")
    given = [*files, tmp_path / "report.pdf", table, array]
    status, output, error = run("predict", bundle, *given, "--json")
    assert status == 1
    names = [json.loads(line)["file"] for line in output.splitlines()]
    assert sorted(names) == sorted([str(digit_file)] * 2 + [f"{array}:0", f"{array}:1"])
    wrong = [
        *reasons,
        f"{tmp_path / 'report.pdf'} cannot be read as an image, such as PNG or JPEG.",
        f"{tmp_path / 'lost.png'} does not exist.",
    ]
    assert sorted(error.splitlines()) == sorted(f"failed: {reason}" for reason in wrong)


def test_file_names_may_be_any_bytes_and_json_overrides_quiet(run, bundle, digit_file):
    odd = digit_file.with_name(os.fsdecode(b"caf\xe9.png"))
    odd.write_bytes(digit_file.read_bytes())
    status, output, error = run("predict", bundle, odd, "--json", "--quiet")
    assert (status, error) == (0, "")
    assert json.loads(output)["file"].endswith("caf\udce9.png")
    status, output, _ = run("predict", bundle, odd)
    assert status == 0
    assert (
        output.splitlines()[-1]
        == f"next: hornbill predict {bundle} '{odd.parent}/caf\\udce9.png' --json"
    )
    assert run("predict", bundle, odd, "--quiet") == (0, "", "")


def test_predict_reads_rows_from_csv(run, row_bundle, tmp_path):
    path = tmp_path / "flowers.csv"
    columns = json.loads((row_bundle / "manifest.json").read_text())["columns"]
    path.write_text(",".join(columns) + "\n5.1,3.5,1.4,0.2\n")
    status, output, _ = run("predict", row_bundle, path)
    assert status == 0
    assert "setosa" in output


def test_a_row_that_cannot_be_predicted_prints_no_table(run, row_bundle, tmp_path):
    path = tmp_path / "flowers.csv"
    columns = json.loads((row_bundle / "manifest.json").read_text())["columns"]
    path.write_text(",".join(columns) + "\n" + "5.1,3.5,1.4,0.2\n" * 300 + "1,nan,3,4\n")
    status, output, error = run("predict", row_bundle, path)
    assert (status, output) == (2, "")
    assert "in line 302 of" in error


def test_predictions_that_are_not_finite_are_refused(run, tmp_path):
    import keras

    from export import ExportOptions, ModelFacts, export_bundle

    start = keras.Input((2,), name="inputs")
    shares = keras.ops.divide(start, keras.ops.sum(start, axis=1, keepdims=True))
    facts = ModelFacts(labels=("a", "b"), columns=("x", "y"), task="multiclass")
    samples = np.array([[1.0, 3.0], [2.0, 2.0]], "float32")
    options = ExportOptions(int8="never")
    model = keras.Model(start, {"probabilities": shares})
    bundle = export_bundle(model, tmp_path, "own", facts, samples, options)
    (tmp_path / "rows.csv").write_text("x,y\n1,3\n0,0\n")
    status, output, error = run("predict", bundle, tmp_path / "rows.csv", "--json")
    assert (status, output) == (2, "")
    assert error.endswith("rows.csv:3.\n")
    assert "Predictions must be finite. Received: NaN or infinity for " in error


def test_verify_exits_with_1_and_names_the_failed_check(run, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "a copy")
    assert f"next: hornbill predict '{copy}' FILE" in run("verify", copy)[1]
    (copy / "model.onnx").write_bytes(b"changed")
    status, output, error = run("verify", copy)
    assert (status, error) == (1, "")
    assert "FAIL  files" in output
    assert "the file has changed" in output
    status, output, error = run("verify", copy, "--quiet")
    assert (status, output) == (1, "")
    assert error.startswith("FAIL  files")
    status, output, _ = run("verify", copy, "--json")
    assert status == 1
    assert json.loads(output)["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train"], "Missing argument 'FAMILY'"),
        (["train", "digits", "--resume", "."], "--resume takes all settings from the run"),
        (["train", "--resume", ".", "--output", "."], "--resume takes all settings from the run"),
        (["tune", "--join", ".", "--output", "."], "--join takes all settings from the search"),
        (["train", "--resume", "none"], "A run must be a folder that hornbill train"),
        (["train", "features", "--data", "noise.csv"], "A table needs a column to predict"),
        (["train", "digit"], "Did you mean 'digits'"),
        (["train", "digits", "--sed", "1"], "No such option: --sed. Did you mean '--seed'?\n"),
        (["train", "digits", "--runs", "x"], "No such option: --runs.\n"),
        (["export", "none", "--outptu", "x"], "--outptu. Did you mean '--output'?\n"),
        (["export", "none", "--epochs", "3"], "No such option: --epochs.\n"),
        (["train", "digits", "--learning-rate", "3"], "as --set optimizer.learning_rate=VALUE.\n"),
        (["train", "digits", "--epoch", "3"], "A setting is given as --set epochs=VALUE.\n"),
        (["train", "digits", "--seed", "-1"], "--seed"),
        (["train", "digits", "--set", "epoch=3"], "Did you mean 'epochs'"),
        (["train", "digits", "--data", "nowhere"], "Received: 'nowhere'"),
        (["train", "digits", "--data", "iris"], "takes images"),
        (["train", "digits", "--config", "none.toml"], "none.toml does not exist."),
        (["train", "--config", "empty.toml"], "Missing argument 'FAMILY'"),
        (["train", "digits", "--epochs", "3"], "A setting is given as --set epochs=VALUE"),
        (["tune", "digits", "--batch-size", "3"], "is given as --set batch_size=VALUE"),
        (["export", "none"], "or a .keras file can be exported. Received: none, which does not"),
        (["export", "noise.csv"], "Received: noise.csv, which is a file"),
        (["export", "."], "Give a folder such as runs/digits/20260101-120000."),
        (["verify", "DIST"], "which has neither. Give a bundle inside, such as"),
        (["verify", "none"], "Received: none, which does not exist"),
        (["predict", "none", "a.png"], "Received: none, which does not exist"),
        (["predict", "BUNDLE", "none.png"], "none.png does not exist."),
        (["predict", "BUNDLE", "noise.png"], "cannot be read as an image"),
        (["predict", "BUNDLE"], "Give either FILE… or --input GLOB. Received: neither."),
        (["serve", "none"], "none does not exist. Give a folder such as dist."),
        (["serve", "noise.png"], "noise.png cannot be read: not a directory."),
        (["serve", "BUNDLE"], "a single version. Serve its parent folder"),
        (["serve", ".", "--host", ""], "an empty host"),
        (["serve", ".", "--max-requests", "9" * 20], "at most 1,000,000"),
    ],
)
def test_invalid_input_prints_one_line_and_exits_with_2(
    arguments, message, run, bundle, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.toml").touch()
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(99))
    before = set(tmp_path.rglob("*"))
    folders = {"BUNDLE": bundle, "DIST": bundle.parent.parent}
    status, output, error = run(*[folders.get(argument, argument) for argument in arguments])
    assert (status, output) == (2, "")
    assert error.startswith("hornbill: ")
    assert error.count("\n") == 1
    assert message in error
    assert set(tmp_path.rglob("*")) == before


def test_a_failed_proof_exits_with_1_and_publishes_nothing(run, mlp_run, softmax_run, tmp_path):
    """A run whose model was replaced by one on which the runtimes disagree."""
    import keras

    from serving.bundle import KERAS_MODEL

    inputs = keras.Input((4,), name="inputs")
    hidden = keras.layers.Dense(1024, "tanh")(inputs)
    features = keras.ops.sin(keras.layers.Dense(3)(hidden) * 1e8)
    probabilities = keras.layers.Dense(3, activation="softmax")(features)
    chaos = keras.Model(inputs, {"probabilities": probabilities})
    folder = shutil.copytree(softmax_run.folder, tmp_path / "run")
    chaos.save(folder / KERAS_MODEL)
    status, output, error = run("export", folder, "--output", tmp_path / "dist")
    assert (status, output) == (1, "")
    assert "Nothing was published" in error
    assert not list((tmp_path / "dist").iterdir())


@pytest.fixture
def few_rounds(monkeypatch):
    """Let the demos time each format only twice."""
    from app.bundles import demo
    from export import quantization
    from serving.timing import median_ms

    monkeypatch.setattr(demo, "median_ms", lambda calls, _: median_ms(calls, 2, warm_up=1))
    monkeypatch.setattr(quantization, "_ROUNDS", 2)


@pytest.mark.usefixtures("few_rounds")
def test_the_demo_measures_every_format(tmp_path, capfd):
    import io

    from rich.console import Console

    from app.bundles.demo import FORMATS, ROUNDS, run_demo

    settings = {"variant": "mlp", "epochs": 1, "hidden": [16], "figures": False}
    text = io.StringIO()
    console = Console(file=text, width=100)
    result = run_demo(tmp_path / "runs", tmp_path / "dist", console, settings)
    assert all(check.passed for check in result.checks)
    assert len(result.predictions) == 10
    assert {size: tuple(latency) for size, latency in result.latency_ms.items()} == dict.fromkeys(
        ROUNDS, FORMATS
    )
    for words in ("test accuracy", "largest difference", "size of model.onnx", "a batch of 256"):
        assert words in text.getvalue()
    log = capfd.readouterr().err
    assert "epoch 1/1" in log
    assert "━" not in log  # a bar cannot be drawn into a pipe


# In short: test_the_demo_measures_every_format.
@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
def test_the_demo_of_images_predicts_test_files(tmp_path):
    import io

    from rich.console import Console

    from app.bundles.demo import run_image_demo
    from app.data.colored_shapes import CLASSES, write_shapes

    data = tmp_path / "shapes"
    write_shapes(data, train=12, test=2)
    for place in (data, data / "test", data / "test" / next(iter(CLASSES))):
        (place / ".DS_Store").write_bytes(b"of a file browser")
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 1, "figures": False}
    text = io.StringIO()
    console = Console(file=text, width=100)
    result = run_image_demo(data, tmp_path / "runs", tmp_path / "dist", console, settings)
    assert all(check.passed for check in result.checks)
    truths = {name: truth for name, truth, _, _ in result.predictions}
    assert truths == {f"test/{c}/000{n}.png": c for c in CLASSES for n in range(2)}
    assert {label for _, _, label, _ in result.predictions} <= CLASSES.keys()
    assert any("image uint8 [batch, 32, 32, 3]" in check.detail for check in result.checks)
    assert "test accuracy, 10 images" in text.getvalue()


def test_a_file_name_cannot_inject_lines_into_the_output(run, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "x\n\x1b[1APASS  files").write_text("")
    status, output, _ = run("verify", copy)
    assert status == 1
    assert "\x1b" not in output
    assert "\nPASS  files" not in output


def test_without_a_command_the_help_is_printed(run):
    _, output, error = run()
    assert "Usage: hornbill" in output
    assert error == ""


def commands():
    """Yield the words of each command, and the command."""
    import typer

    from app.commands.cli import app

    def walk(words, command):
        yield words, command
        for name, each in getattr(command, "commands", {}).items():
            yield from walk((*words, name), each)

    return walk((), typer.main.get_command(app))


def test_the_help_shows_all_that_was_written(run, monkeypatch):
    """Rich takes what is in brackets for a style, unless a backslash is in front."""
    monkeypatch.setenv("COLUMNS", "1000")  # nothing is divided into lines
    for words, command in commands():
        shown = " ".join(run(*words, "--help")[1].replace("│", " ").split())
        texts = [parameter.help for parameter in command.params]
        for text in (command.help, *texts, *(command.epilog or "").splitlines()):
            assert " ".join((text or "").replace("\\[", "[").split()) in shown, words


def test_the_reference_has_what_the_help_has():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/cli.md"))
    reference = runpy.run_path(str(ROOT / "docs" / "cli_reference.py"))
    text = reference["on_page_markdown"]("", page)
    assert "Environment variable: `HORNBILL_TOKEN`." in text
    assert "Default: ``" not in text
    (row,) = (
        line
        for line in text.splitlines()
        if line.startswith("| `--data SOURCE` | Labeled data: any source that train takes, or")
    )
    assert "Required." in row
    for words, command in commands():
        for parameter in () if hasattr(command, "commands") else command.params:
            assert " ".join(parameter.help.split()).replace("|", "\\|") in text, words


def test_version_prints_the_package_version(run):
    code, output, error = run("--version")
    assert (code, output, error) == (0, f"hornbill {version('hornbill')}\n", "")


@pytest.mark.parametrize(
    ("settings", "backend", "line"),
    [
        ({}, "torch", "backend must be tensorflow or jax. Received: 'torch', from KERAS_BACKEND"),
        ({"backend": "own"}, "", "backend must be tensorflow or jax. Received: 'own', from "),
        ({"floatx": "float8"}, "", "Keras cannot start with its settings: "),
    ],
)
def test_keras_settings_that_prevent_its_start_are_reported(settings, backend, line, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    finished = subprocess.run(
        [sys.executable, "-c", "from app.entry import main; main()", "train", "softmax"],
        env={**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert finished.returncode == 2
    _, message = finished.stderr.splitlines()
    assert message.startswith("hornbill: ")
    assert line in message
    assert str(tmp_path / "keras.json") in message


def interrupted_at(module, *arguments):
    """Run a command, and send it SIGINT while it imports a module."""
    program = f"""
import signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
from app.entry import main
sys.meta_path.insert(0, Interrupts())
main()
"""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_interruption_during_the_imports_prints_one_line():
    finished = interrupted_at("typer.main", "--help")
    assert (finished.returncode, finished.stdout) == (130, "")
    assert finished.stderr == "hornbill: Interrupted.\n"


def test_an_interrupted_command_prints_one_line(tmp_path):
    own = tmp_path / "own.keras"
    own.touch()
    finished = interrupted_at("tensorflow.python", "export", str(own))
    assert finished.returncode == 130
    assert finished.stderr == f"exporting {own}: loading TensorFlow …\nhornbill: Interrupted.\n"


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (["space.toml"], "a search that is not finished. Finish it with hornbill tune --join it,"),
        (
            ["space.toml", "refit/digits/20260101/metrics.json"],
            "a search. Give the run of its best settings, it/refit/digits/20260101.",
        ),
        (["1/manifest.json"], "a bundle, which is already exported. Check it with hornbill verify"),
        (["manifest.json"], "a bundle, which is already exported. Check it with hornbill verify"),
        (["digits/1/manifest.json"], "a folder of bundles. Serve them with hornbill serve it"),
        (["_job.json"], "the predictions of a batch job"),
        (["xor-limit/result.json"], "a folder of studies, which keep no models"),
        (["result.json"], "a study, which keeps no model"),
        (
            ["digits/20260101/metrics.json", "softmax/20260102/metrics.json"],
            "a folder of runs. Give one of them; the latest is it/softmax/20260102.",
        ),
    ],
)
def test_export_says_what_a_folder_is_that_is_no_run(files, advice, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = Path("it", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    status, _, error = run("export", "it")
    assert (status, error.count("\n")) == (2, 1)
    assert f"hornbill train has written. Received: it, {advice}" in error


def test_the_files_that_tell_folders_apart_are_those_that_are_written():
    from app.batch import ledger
    from app.config import run_files
    from app.studies import runner
    from app.tuning import finishing, search

    assert (search.SPACE, finishing.REFIT) == (run_files.SEARCH, "refit")
    assert (runner.RESULT, ledger._JOB) == (run_files.STUDY, run_files.JOB)


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("serving.packed.pack", ["pack", "BUNDLE"]),
        ("app.bundles.evaluating.evaluate_bundle", ["evaluate", "BUNDLE", "--data", "mnist"]),
        ("app.bundles.comparing.compare", ["compare", "BUNDLE", "BUNDLE", "--data", "mnist"]),
        ("app.sharing.handing_on.pull", ["pull", "r.io/a"]),
    ],
)
def test_sigterm_ends_a_command_as_ctrl_c_does(place, arguments, bundle, run, monkeypatch):
    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(place, stop)
    arguments = [bundle if argument == "BUNDLE" else argument for argument in arguments]
    assert run(*arguments) == (130, "", "hornbill: Interrupted.\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_every_command_but_the_server_ends_on_sigterm_as_on_ctrl_c():
    from app.commands.cli import app
    from app.commands.study import study
    from app.commands.terminal import Command

    commands = [*app.registered_commands, *study.registered_commands]
    others = [each.callback.__name__ for each in commands if not issubclass(each.cls, Command)]
    assert others == ["serve"]


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_job_runs_with_closed_standard_streams(closed, bundle, digit_file, tmp_path):
    output = tmp_path / "out.csv"
    code = "from app.entry import main; main()"
    arguments = ["-c", code, "predict", bundle, digit_file, "--output", output]
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert len(output.read_text().splitlines()) == 2


def test_a_stream_that_is_not_utf8_gets_escapes():
    program = """
import typer
from app import entry
from app.commands import cli
cli.main = lambda: typer.echo("é ✓ 😀")
entry.main()
"""
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    ended = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert ended.stdout.decode("cp1252").rstrip() == "é \\u2713 \\U0001f600"


@pytest.mark.parametrize("encoding", ["cp1252", "utf8"])
def test_json_is_valid_in_any_encoding(encoding, monkeypatch):
    from app.commands.terminal import print_json

    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    print_json({"é": "✓ 😀"})
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode(encoding)) == {"é": "✓ 😀"}
