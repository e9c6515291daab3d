"""What the commands check and say before TensorFlow is imported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.config import make_config
from app.config.run_config import config_toml
from app.config.run_files import CHECKPOINT, CONFIG, DATA, METRICS, SPLITS
from serving.bundle import KERAS_MODEL

ROOT = Path(__file__).parent.parent
# Runs commands one after the other in a process; the last line says what was imported.
PROGRAM = """
import json, sys
from app.commands.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        print(end.code)
heavy = {"tensorflow", "keras", "sklearn", "scipy", "matplotlib", "pandas"}
print(sorted(heavy & set(sys.modules)))
"""
# Arguments, and what the error says.
MISTAKES = {
    "a setting": (["train", "softmax", "--set", "epoch=3"], "Did you mean 'epochs'"),
    "a value": (["train", "digits", "--set", "variant=mpl"], "Did you mean 'mlp'"),
    "a number": (["train", "digits", "--set", "dropout=2"], "dropout must be at least 0 and below"),
    "a run as backbone": (
        ["train", "features", "--set", "backbone=runs/features/gone"],
        "Received: runs/features/gone, which does not exist.",
    ),
    "a backbone": (["train", "features", "--set", "backbone=ResNet5"], "Did you mean 'ResNet50'"),
    **{
        f"a file as {key}": (
            ["train", "features", "--data", "digits8x8", "--set", f"{key}=gone{suffix}", *others],
            f"{key} must be a file that exists. Received: ",
        )
        for key, suffix, *others in (
            ("backbone", ".keras"),
            ("start_from", ".keras"),
            ("weights", ".weights.h5", "--set", "backbone=VGG16"),
        )
    },
    "images of a table": (
        ["train", "features", "--data", "rows.csv", "--target", "kind", "--image-column", "size"],
        "no path that exists",
    ),
    "a family": (["train", "sofmax"], "Did you mean 'softmax'"),
    "a source": (["train", "softmax", "--data", "irsi"], "Did you mean 'iris'"),
    "a kind": (["train", "digits", "--data", "iris"], "takes images. Received: iris"),
    "images for rows": (
        ["train", "softmax", "--data", "digits8x8"],
        "Use the family 'features', or a head on the features of a model of images: --on-features",
    ),
    "a file": (["train", "features", "--data", "no.csv"], "does not exist or is not a file"),
    "a folder": (["train", "features", "--data", "empty"], "a subfolder of images for each"),
    "a joined source": (["train", "digits", "--data", "digits8x8+no.npz"], "Received: no.npz"),
    "no target": (["train", "features", "--data", "rows.csv"], "needs a column to predict"),
    "a target": (
        ["train", "features", "--data", "rows.csv", "--target", "knid"],
        "must have the column 'knid'. Received: 'size', 'kind'. Did you mean 'kind'",
    ),
    "a script of data that is not there": (
        ["train", "features", "--data", "nofile.py:rows", "--target", "kind"],
        "data must be in a file that exists. Received: nofile.py:rows",
    ),
    "a script of a loss that is not there": (
        ["train", "softmax", "--data", "iris", "--set", "loss=nofile.py:loss"],
        "loss must be in a file that exists. Received: ",
    ),
    "the second of two targets": (
        ["train", "features", "--data", "rows.csv", "--target", "kind", "--target", "knid"],
        "must have the column 'knid'. Received: 'size', 'kind'. Did you mean 'kind'",
    ),
    "a target of parquet": (
        ["train", "features", "--data", "rows.parquet", "--target", "knid"],
        "must have the column 'knid'",
    ),
    **{
        option: (
            ["train", "features", "--data", "rows.csv", "--target", "kind", f"--{option}", "x"],
            "must have the column 'x'",
        )
        for option in ("categorical", "drop", "keep", "image-column")
    },
    "a target of no table": (["train", "softmax", "--target", "kind"], "applies to tables only"),
    "no TOML": (["train", "--config", "rows.csv"], "rows.csv cannot be read as TOML"),
    "a missing TOML": (["train", "--config", "no.toml"], "no.toml does not exist"),
    "a run to resume": (["train", "--resume", "empty"], "A run must be a folder that hornbill"),
    "a setting to resume with": (
        ["train", "--resume", "begun", "--set", "epohcs=9"],
        "Did you mean 'epochs'",
    ),
    "a setting that must stay": (
        ["train", "--resume", "begun", "--set", "batch_size=9"],
        "only epochs, patience, optimizer.learning_rate, figures can. Received: batch_size=9",
    ),
    "a function that is not there": (
        ["train", "code.py:biuld", "--data", "iris"],
        "code.py:biuld'; there is no 'biuld'. Did you mean 'build'",
    ),
    "a callback that is not there": (
        ["train", "softmax", "--set", "callbacks=code.py:Stpo"],
        "there is no 'Stpo'. Did you mean 'Stop'",
    ),
    "a script without such data": (
        ["train", "features", "--data", "code.py:rows", "--target", "kind"],
        "there is no 'rows'",
    ),
    "no more epochs": (
        ["train", "--resume", "done", "--set", "epochs=2"],
        "only for more epochs than it has trained. Received: epochs=2 for 2 trained epochs.",
    ),
    "fewer epochs": (
        ["train", "--resume", "stopped", "--set", "epochs=1"],
        "at least the number of epochs that the run has trained. Received: epochs=1 for 2 trained",
    ),
    "no checkpoint": (
        ["train", "--resume", "bare", "--set", "epochs=30"],
        "A finished run needs its checkpoint.npz to go on. Received: bare, without one.",
    ),
    "several processes": (
        ["train", "digits", "--data", "no.npz", "--coordinator", "here:1"],
        "--coordinator needs --processes",
    ),
    "a searched setting": (
        ["tune", "digits", "--search", "dropuot=uniform:0..0.5"],
        "Did you mean 'dropout'",
    ),
    "a target of tune": (
        [
            "tune",
            "features",
            "--data",
            "rows.csv",
            "--target",
            "knid",
            "--search",
            "l1=log:1e-5..1",
        ],
        "must have the column 'knid'",
    ),
    "a run to export": (["export", "no"], "which does not exist"),
    "a folder to export": (["export", "empty"], "A run must be a folder that hornbill train"),
    "a file to export": (["export", "no.keras"], "The model file does not exist"),
    "labels": (["export", "model.keras", "--labels", "no.txt"], "no.txt does not exist"),
    "a bundle": (["predict", "no", "rows.csv"], "no, which does not exist"),
    "a bundle of a batch": (["predict", "no", "rows.csv", "-o", "out.csv"], "no, which does not"),
    "a folder to predict": (["predict", "no", "empty"], "--input empty --output predictions.csv."),
    "a bundle of bench": (["bench", "no"], "no, which does not exist"),
    "a picture": (["bench", "no", "--picture", "x.jpg"], "--picture must end in .png"),
    "a study": (["study", "run", "vanish"], "Did you mean 'vanishing'"),
}


CODE = """
import keras
class Stop(keras.callbacks.Callback): ...
if True:
    def build(): ...
"""


def write_state(path):
    """Write a checkpoint of two epochs, without weights."""
    names = ("settings", "has_ended", "compilation", "best", "seconds")
    state = {"history": [{"epoch": 1}, {"epoch": 2}], "callbacks": {}, **dict.fromkeys(names)}
    np.savez(path, state=np.frombuffer(json.dumps(state).encode(), np.uint8))


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """The lines on standard error for each of `MISTAKES`, the exit statuses, and the imports."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "empty").mkdir()
    begun, ended = (SPLITS, DATA, CONFIG), (METRICS, KERAS_MODEL)
    runs = {
        "begun": begun,
        "stopped": (*begun, CHECKPOINT),
        "done": (*begun, *ended, CHECKPOINT),
        "bare": (*begun, *ended),
    }
    for run, files in runs.items():
        (folder / run).mkdir()
        for name in files:
            (folder / run / name).write_text("")
        (folder / run / CONFIG).write_text(config_toml(make_config("softmax")))
        if CHECKPOINT in files:
            write_state(folder / run / CHECKPOINT)
    (folder / "code.py").write_text(CODE)
    (folder / "rows.csv").write_text("size,kind\n1,a\n2,b\n")
    (folder / "model.keras").write_bytes(b"")
    parquet.write_table(
        pyarrow.table({"size": [1, 2], "kind": ["a", "b"]}), folder / "rows.parquet"
    )
    arguments = json.dumps([arguments for arguments, _ in MISTAKES.values()])
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    *codes, imported = finished.stdout.splitlines()
    return dict(zip(MISTAKES, finished.stderr.splitlines(), strict=True)), codes, imported


def test_no_mistake_waits_for_tensorflow(mistakes):
    _, codes, imported = mistakes
    assert imported == "[]"
    assert codes == ["2"] * len(MISTAKES)


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(kind, mistakes):
    lines, _, _ = mistakes
    assert lines[kind].startswith("hornbill: ")
    assert MISTAKES[kind][1] in lines[kind]


def test_the_first_word_waits_for_nothing_that_is_heavy():
    """The time itself is measured by `python -m benchmarks.cold_start commands`."""
    program = """
import sys
sys.modules["keras"] = None  # the command goes no further
from app.commands.cli import main
try:
    main(["train", "softmax"])
except SystemExit:
    print(sorted({"numpy", "onnxruntime", "PIL", "rich"} & set(sys.modules)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert finished.stderr.splitlines()[0] == "training softmax on iris …"
    assert finished.stdout == "[]\n"
