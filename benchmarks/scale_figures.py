"""Rows of README's table about searches and batch jobs."""

from typing import Any

from benchmarks.results import read_results

Row = tuple[str, ...]
_METHODS = {"tpe": "TPE", "gp": "Gaussian process", "random": "random", "grid": "grid"}


def scale_rows() -> list[Row]:
    """Return what was asked of searches and batch jobs, and what was measured."""
    tuning = {row["what"]: row for row in read_results("tuning")}
    makers = {"defaults": _defaults, "methods": _methods, "workers": _workers}
    rows = [make(tuning[what]) for what, make in makers.items() if what in tuning]
    for row in read_results("batch"):
        rows += _batch(row)
    return rows


def _defaults(row: dict[str, Any]) -> Row:
    errors = [f"{row[f'test_error_of_the_{which}']:.2%}" for which in ("defaults", "best")]
    return (
        f"40 trials of TPE, 6,000 samples of MNIST: test error {' → '.join(errors)}, lower by",
        f"≥ {row['asked_lower_by']:.0%}",
        f"{row['lower_by']:.1%}",
        "`python -m benchmarks.tuning`",
    )


def _methods(row: dict[str, Any]) -> Row:
    losses = row["mean_best_validation_loss"]
    return (
        "best validation loss of 20 trials, mean of 5 searches: "
        + ", ".join(_METHODS[method] for method in losses),
        "Bayesian ≤ random ≤ grid",
        ", ".join(f"{loss:.4f}" for loss in losses.values()),
        "`python -m benchmarks.tuning`",
    )


def _workers(row: dict[str, Any]) -> Row:
    return (
        "two workers' time for a study over that of one",
        f"≤ {row['asked_ratio']}",
        f"{row['ratio']:.2f}",
        "`python -m benchmarks.tuning workers`",
    )


def _batch(row: dict[str, Any]) -> list[Row]:
    images, command = f"a million images, `{row['what']}`,", "`python -m benchmarks.batch`"
    return [
        (
            f"{images} Ray: rate of one actor over that of a loop ({row['loop_rows_per_s']:,}/s)",
            "≥ 0.85",
            f"{row['one_actor_to_loop']:.2f}",
            command,
        ),
        (f"{images} Ray: two actors over one", "≥ 1.6", f"{row['two_actors_to_one']:.2f}", command),
        (
            f"{images} two such loops at once over one",
            "no goal",
            f"{row['two_loops_to_one']:.2f}",
            command,
        ),
    ]
