"""Trains and exports the tiny bundles of `tests/bundles/`: python -m tests.make_bundles

The tests of serving start from them, so that they run without TensorFlow. Make them again whenever
an export writes something else; `test_export_committed_bundles.py` fails until then.
"""

import shutil
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np

from app.bundles.export_run import export_run
from app.config import make_config
from app.data.sources import load_dataset
from app.runs import train
from export import ExportOptions
from tests.checksums import write_checksums

FOLDER = Path(__file__).with_name("bundles")
TABLE = "raw.csv"
# Whether an int8 model is included depends on its speed on the machine that exports.
OPTIONS = ExportOptions(int8="never")
DIGITS = {"variant": "mlp", "epochs": 3, "hidden": [32], "batch_size": 16}
ROWS = {"epochs": 10, "repeat": 1, "optimizer.learning_rate": 0.1}
RAW_ROWS = {"target": "kind", "epochs": 3, "hidden": [8]}


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    np.save(FOLDER / "images.npy", load_dataset("digits8x8").inputs[:12])
    with chdir(FOLDER):  # so that no path of this machine enters a manifest
        write_raw_rows(Path(TABLE))
        make_bundle("digits", make_config("digits", DIGITS))
        make_bundle("softmax", make_config("softmax", ROWS))
        make_bundle("raw", make_config("features", RAW_ROWS, data=TABLE))


def write_raw_rows(path):
    """Write a table of numbers with missing values, and texts."""
    random = np.random.default_rng(0)
    lines = [
        f"{'' if random.random() < 0.2 else round(x, 3)},{random.choice(['red', 'blue', ''])},"
        f"{round(y, 3)},{'yes' if x + y > 0 else 'no'}"
        for x, y in random.normal(size=(200, 2)).tolist()
    ]
    path.write_text("size,color,weight,kind\n" + "\n".join(lines) + "\n")


def make_bundle(name, config):
    """Export version 1 of a model, without pictures, which are most of a bundle's size."""
    with tempfile.TemporaryDirectory() as runs:
        version = export_run(train(config, runs).folder, "dist", name, OPTIONS)
    shutil.rmtree(version / "figures", ignore_errors=True)
    card = (version / "README.md").read_text()
    lines = [line for line in card.splitlines(keepends=True) if "](figures/" not in line]
    (version / "README.md").write_text("".join(lines))
    write_checksums(version)


if __name__ == "__main__":
    main()
