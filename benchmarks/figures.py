"""Writes the table of measured figures, as README shows it, from benchmarks/results/.

python -m benchmarks.figures
"""

import json
from typing import Any

from benchmarks.results import FOLDER


def figures_table() -> str:
    """Return a Markdown table of every figure asked for, what was measured, and by what."""
    rows = [*_accuracy_rows(), *_overhead_rows(), *_cold_start_rows()]
    lines = ["| what | asked for | measured | command |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def machine_line() -> str:
    """Return the machine on which the accuracies were measured."""
    machine = _read("accuracy")["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("processor", "cores"))
    return f"Machine: {machine['processor']}, {machine['cores']} cores; {packages}.\n"


def _read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def _accuracy_rows() -> list[tuple[str, ...]]:
    command = "`python -m benchmarks.accuracy`"
    return [
        (
            f"{row['what']}, test accuracy, mean of {len(row['accuracies'])} "
            + ("folds" if row["what"].startswith("iris") else "seeds"),
            f"≥ {row['asked']:.1%}",
            f"{row['mean_accuracy']:.2%}",
            command,
        )
        for row in _read("accuracy")["results"]
    ]


def _overhead_rows() -> list[tuple[str, ...]]:
    return [
        (
            f"one row, `Predictor.predict` over `session.run`, {row['what']}",
            "≤ 5 µs",
            f"{row['added_us']:.1f} µs",
            "`python -m benchmarks.overhead BUNDLE…`",
        )
        for row in _read("overhead")["results"]
    ]


def _cold_start_rows() -> list[tuple[str, ...]]:
    (row,) = _read("cold_start")["results"]
    command = "`python -m benchmarks.cold_start BUNDLE`"
    what = "fresh interpreter to first prediction, serving over "
    return [
        (what + "bare onnxruntime", "≤ 1.5", f"{row['serving_to_bare']:.2f}", command),
        (what + "TensorFlow", "≤ 0.05", f"{row['serving_to_tensorflow']:.3f}", command),
    ]


if __name__ == "__main__":
    print(figures_table())
    print(machine_line())
