"""Tables: the default net beside gradient boosting and a linear model of scikit-learn.

    HORNBILL_DATA=… python -m benchmarks.tables defaults    scores and seconds, five seeds
    HORNBILL_DATA=… python -m benchmarks.tables tune        both tuned by 40 trials
    HORNBILL_DATA=… python -m benchmarks.tables latency     batches of one row, one thread
    HORNBILL_DATA=… python -m benchmarks.tables newcomer    from a CSV file to a verified bundle
    … --tables adult,telco_churn    some tables only
    … --resume                      only what has no stored result

HORNBILL_DATA names a folder with the tables in `tables/`. The score is ROC AUC, or R² for values,
on the test split, which is a fifth of the rows. The rivals, scikit-learn's HistGradientBoosting
with its defaults and logistic or ridge regression on standardized and one-hot columns, are trained
on the same rows as the net and on its validation rows too, since they need none. `tune` is
`hornbill tune features` with its default space, beside a search of HistGradientBoosting by its loss
on the same validation rows, refitted on both; both searches use TPE and begin with the defaults.

A run chooses nothing on its test rows. The defaults of the net, however, were chosen in part on the
training rows of one split of four of these tables, and these hold test rows of the other seeds.

The intervals are those of Student's distribution for the mean difference over the seeds, at 95%.
Since the splits share rows, the variance is corrected as by Nadeau & Bengio (2003); they remain an
approximation.

Goals, of the mean over the seeds: at most 0.005 below the boosting on five of six tables, above it
on two, and never below the linear model; tuned, at least as good on four; less than 100 µs for a
row; at most 20 s from the smallest table to a verified bundle.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy import stats
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.config.chosen_defaults import choose_defaults
from app.config.run_config import RunConfig, make_config
from app.data.datasets import Dataset
from app.data.splits import TEST_FRACTION, Splits, split_dataset
from app.system.data_folders import require_data
from benchmarks.results import results_of_this_machine, write_results

SEEDS, TRIALS, ROUNDS = 5, 40, 2000
SMALLEST = "ionosphere"
RIVALS = ("boosting", "linear")
# The most categories of a column that scikit-learn's boosting takes.
_MOST_CATEGORIES = 255
# The defaults of the boosting. Its search draws the penalty on a logarithmic scale, where the least
# is as good as none.
_LEAST_L2 = 1e-8
_BOOSTING_DEFAULTS = {
    "learning_rate": 0.1,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": _LEAST_L2,
    "max_features": 1.0,
}
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Table:
    """A table: its file, the column to predict and the head.

    Attributes:
        target: the column to predict.
        head: `softmax` for classes, `linear` for values.
    """

    target: str
    head: str = "softmax"

    @property
    def score(self) -> str:
        """Name of the score."""
        return "r2" if self.head == "linear" else "roc_auc"

    def settings(self) -> dict[str, Any]:
        """Return the settings that a user has to give."""
        return {"target": self.target, "head": self.head}


TABLES = {
    "ionosphere": Table("kind"),
    "pima_diabetes": Table("diabetes"),
    "abalone": Table("rings", "linear"),
    "telco_churn": Table("Churn"),
    "california_housing": Table("median_house_value", "linear"),
    "adult": Table("income"),
}


def table_path(name: str) -> Path:
    """Return the path of a table."""
    return require_data(f"tables/{name}.csv")


def prepare(name: str, seed: int) -> tuple[RunConfig, Dataset, Splits]:
    """Return the chosen configuration, the rows and the splits of a seed."""
    from app.runs.train import load_run_data

    config = make_config("features", TABLES[name].settings(), data=table_path(name), seed=seed)
    dataset = load_run_data(config)
    splits = split_dataset(dataset, seed, config.training.validation_split)
    return choose_defaults(config, len(splits.train), dataset.sample_shape), dataset, splits


def by_defaults(name: str, seed: int) -> dict[str, Any]:
    """Return scores on the test split and seconds of training, of the net and of its rivals."""
    from app.evaluation.predictions import predict_samples
    from app.training.fit import fit

    config, dataset, splits = prepare(name, seed)
    start = time.perf_counter()
    fitted = fit(config, dataset, splits)
    found = {
        "net": {
            "seconds": time.perf_counter() - start,
            "score": _score(
                name, dataset, splits, predict_samples(fitted.model, dataset, splits.test)
            ),
            "epochs": len(fitted.history),
            "examples_per_s": round(fitted.examples_per_s),
        }
    }
    columns, targets = _columns(dataset), dataset.targets.ravel()
    known = np.concatenate([splits.train, splits.validation])
    for rival, model in (("boosting", _boosting(dataset, seed)), ("linear", _linear(dataset))):
        start = time.perf_counter()
        model.fit(columns[known], targets[known])
        seconds = time.perf_counter() - start
        score = _score(name, dataset, splits, _predict(model, dataset, columns[splits.test]))
        found[rival] = {"seconds": seconds, "score": score}
    return found


def _columns(dataset: Dataset) -> np.ndarray:
    """Return numbers and the codes of texts, float32 `(rows, columns)`."""
    everything = slice(0, len(dataset.targets))
    parts = [dataset.inputs[everything]]
    if dataset.codes is not None:
        parts.append(dataset.codes[everything])
    return np.concatenate(parts, axis=1).astype(np.float32)


def _boosting(dataset: Dataset, seed: int, **settings: Any) -> Any:
    first = len(dataset.columns)
    categorical = [
        first + column
        for column, words in enumerate(dataset.words)
        if len(words) <= _MOST_CATEGORIES
    ]
    is_regression = dataset.task == "regression"
    kind = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    return kind(categorical_features=categorical or None, random_state=seed, **settings)


def _linear(dataset: Dataset) -> Any:
    first = len(dataset.columns)
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (numbers, list(range(first))), (texts, list(range(first, first + len(dataset.words))))
    )
    is_regression = dataset.task == "regression"
    model = RidgeCV(np.logspace(-3, 3, 7)) if is_regression else LogisticRegression(max_iter=1000)
    return make_pipeline(columns, model)


def _predict(model: Any, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    if dataset.task == "regression":
        return np.asarray(model.predict(rows)).reshape(len(rows), -1)
    return np.asarray(model.predict_proba(rows))


def _score(name: str, dataset: Dataset, splits: Splits, predictions: np.ndarray) -> float:
    from app.evaluation.metrics import measure

    return measure(dataset.task, dataset.targets[splits.test], predictions)[TABLES[name].score]


def tuned(name: str, seed: int) -> dict[str, Any]:
    """Return the score of each after its search, on the test split, and the seconds it took."""
    table = TABLES[name]
    with tempfile.TemporaryDirectory() as folder:
        command = ["tune", "features", "--data", str(table_path(name)), "--target", table.target]
        command += ["--set", f"head={table.head}", "--seed", str(seed)]
        start = time.perf_counter()
        result = _hornbill(*command, "--trials", str(TRIALS), "--output", folder, "--json")
        seconds = time.perf_counter() - start
    found = {"net": {"seconds": seconds, "score": json.loads(result)["test"][table.score]}}
    start = time.perf_counter()
    score = _tuned_boosting(name, seed)
    found["boosting"] = {"seconds": time.perf_counter() - start, "score": score}
    return found


def _tuned_boosting(name: str, seed: int) -> float:
    _, dataset, splits = prepare(name, seed)
    columns, targets = _columns(dataset), dataset.targets.ravel()

    def loss_of(trial: optuna.Trial) -> float:
        model = _boosting(dataset, seed, **_draw_boosting(trial))
        model.fit(columns[splits.train], targets[splits.train])
        predictions = _predict(model, dataset, columns[splits.validation])
        truth = dataset.targets[splits.validation]
        if dataset.task == "regression":
            return float(mean_squared_error(truth, predictions))
        return float(log_loss(truth, predictions, labels=range(len(dataset.labels))))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(_BOOSTING_DEFAULTS)
    study.optimize(loss_of, TRIALS)
    model = _boosting(dataset, seed, **study.best_params)
    known = np.concatenate([splits.train, splits.validation])
    model.fit(columns[known], targets[known])
    return _score(name, dataset, splits, _predict(model, dataset, columns[splits.test]))


def _draw_boosting(trial: optuna.Trial) -> dict[str, Any]:
    """Draw settings, much as Grinsztajn et al. (2022) search them."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "max_iter": trial.suggest_int("max_iter", 50, 500),
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 5, 63),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, 100, log=True),
        "l2_regularization": trial.suggest_float("l2_regularization", _LEAST_L2, 10, log=True),
        "max_features": trial.suggest_float("max_features", 0.3, 1.0),
    }


def latency(name: str) -> dict[str, Any]:
    """Return the median µs of a row on onnxruntime, one thread, bare and through `Predictor`.

    The net has the default shape for the table and is trained for an epoch.
    """
    from app.bundles.export_run import export_run
    from app.runs.train import train
    from serving import Predictor
    from serving.runtime import onnxruntime
    from serving.timing import median_ms

    settings = {**TABLES[name].settings(), "epochs": 1}
    with tempfile.TemporaryDirectory() as folder:
        config = make_config("features", settings, data=table_path(name))
        run = train(config, folder, figures=False)
        bundle = export_run(run.folder, Path(folder) / "bundles", name)
        predictor = Predictor.load(bundle)
        _, dataset, splits = prepare(name, 0)
        row = dataset.model_inputs(splits.test[:1])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(bundle / "model.onnx", options)
        named = row if isinstance(row, dict) else {session.get_inputs()[0].name: row}
        output = [predictor.manifest.prediction_output]
        calls: dict[str, Callable[[], object]] = {
            "onnxruntime": lambda: session.run(output, named),
            "Predictor": lambda: predictor.predict(row),
        }
        found = median_ms(calls, ROUNDS)
    return {name: round(1000 * milliseconds, 1) for name, milliseconds in found.items()}


def newcomer() -> float:
    """Return the seconds from the smallest CSV file to a verified bundle, by the command line."""
    table = TABLES[SMALLEST]
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data", str(table_path(SMALLEST)), "--target", table.target]
        start = time.perf_counter()
        run = _hornbill("train", "features", *data, "--output", f"{folder}/runs", "--json")
        bundle = f"{folder}/dist"
        _hornbill("export", json.loads(run)["run"], "--output", bundle, "--name", SMALLEST)
        _hornbill("verify", f"{bundle}/{SMALLEST}")
        return time.perf_counter() - start


def _hornbill(*arguments: str) -> str:
    command = [sys.executable, "-c", _HORNBILL, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def interval(ours: list[float], theirs: list[float]) -> list[float]:
    """Return the 95% interval of the mean difference of paired scores; empty for one pair.

    The scores are of random splits of the same rows. They share most of their training rows, so
    the mean varies more than that of independent scores (Nadeau & Bengio, 2003, equation 11).
    """
    differences, count = np.subtract(ours, theirs), len(ours)
    if count < 2:
        return []
    variance = differences.var(ddof=1) * (1 / count + TEST_FRACTION / (1 - TEST_FRACTION))
    reach = float(stats.t.ppf(0.975, count - 1) * np.sqrt(variance))
    mean = float(differences.mean())
    return [round(mean - reach, 4), round(mean + reach, 4)]


def _measure_seeds(part: str, names: list[str], seeds: int, is_resumed: bool) -> None:
    """Measure each seed of each table in turn, and store its result at once."""
    measure = {"defaults": by_defaults, "tune": tuned}[part]
    stored = {row["what"]: row for row in results_of_this_machine("tables")}
    for name in names:
        key = f"{name}, {part}"
        row = stored.get(key) if is_resumed else None
        if part == "tune" and row and "rival_search" not in row:
            row = None  # it has another rival
        row = row or {"what": key, "part": part, "table": name, "score": TABLES[name].score}
        if part == "tune" and "runs" not in row:
            row["rival_search"] = "TPE"
        runs = row.setdefault("runs", [])
        for seed in range(len(runs), seeds):
            runs.append(measure(name, seed))
            print(f"{name}, {part}, seed {seed}: {runs[-1]}", flush=True)
            scores = {each: [run[each]["score"] for run in runs] for each in runs[0]}
            row["mean"] = {each: statistics.mean(values) for each, values in scores.items()}
            row["seconds"] = {
                each: round(statistics.mean(run[each]["seconds"] for run in runs), 2)
                for each in runs[0]
            }
            row["intervals"] = {
                each: interval(scores["net"], scores[each]) for each in RIVALS if each in scores
            }
            write_results("tables", [row], repeated="runs")


def main() -> None:
    """Run the named parts, or all."""
    parts = ("defaults", "tune", "latency", "newcomer")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--tables", default=",".join(TABLES), help="Names, separated by commas.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="Seeds of `defaults`.")
    parser.add_argument("--tune-seeds", type=int, default=1, help="Seeds of `tune`.")
    parser.add_argument("--resume", action="store_true", help="Skip what has a stored result.")
    given = parser.parse_args()
    names = given.tables.split(",")
    stored = {row["what"] for row in results_of_this_machine("tables")} if given.resume else set()
    for part in given.parts or parts:
        if part == "defaults":
            _measure_seeds(part, names, given.seeds, given.resume)
        elif part == "tune":
            _measure_seeds(part, names, given.tune_seeds, given.resume)
        elif part == "latency":
            for name in names:
                if f"{name}, latency" not in stored:
                    row = {"what": f"{name}, latency", "part": part, "table": name}
                    row |= {"us": latency(name)}
                    print(row, flush=True)
                    write_results("tables", [row])
        elif "newcomer" not in stored:
            row = {"what": "newcomer", "part": part, "seconds": round(newcomer(), 1)}
            print(row, flush=True)
            write_results("tables", [row])


if __name__ == "__main__":
    main()
