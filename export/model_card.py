"""Writes the model card: `README.md` of a version, with Hugging Face front matter."""

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from serving.bundle import BROWSER_PROOF, CHECKSUMS, GOLDEN, INT8, KERAS_MODEL, MANIFEST, MODEL
from serving.errors import printable
from serving.int8 import LARGEST_SUM
from serving.manifest import TASKS, Calibration, Manifest, TensorSpec, describe_batch
from serving.written_numbers import (
    metric_name,
    write_number,
    write_percent,
    write_probability,
    write_score,
)

_FILES = {
    MODEL: "the model for ONNX Runtime, preprocessing included",
    KERAS_MODEL: "the same model for Keras, to train others on its features",
    "saved_model.pb": "the same function for TensorFlow, weights in `variables/`",
    GOLDEN: "samples and what Keras predicts for them, in ONNX's own test layout",
    BROWSER_PROOF: "runs these samples in a browser: open it",
    MANIFEST: "inputs, outputs, labels, proof and origin, for programs",
    CHECKSUMS: "SHA-256 of every other file: `sha256sum -c SHA256SUMS`",
}
_SHOWN_COLUMNS = 10
# Of `serving.manifest.ScoreInterval`.
_METHODS = {"wilson": "Wilson's", "bootstrap": "those of a seeded bootstrap"}
# Signs of Markdown; an underscore within a word is none.
_MARKS = re.compile(r"[\\`*\[\]<>&]|(?<![^\W_])_|_(?![^\W_])")
_RAW_ROWS = """
Raw rows are read as in training, dates and texts included, by `hornbill predict {} rows.csv` and by
`Predictor.predict_rows` of Hornbill's module `serving`.{}
"""


def write_model_card(manifest: Manifest, figures: Sequence[str], folder: Path) -> None:
    """Write `README.md` into `folder`; it shows the named images of `figures/`."""
    sections = (
        _front_matter(manifest),
        f"# {manifest.name}, version {manifest.version}\n",
        _summary(manifest),
        _comparison(manifest),
        _signature(manifest),
        _usage(manifest),
        _evidence(manifest),
        _confidence(manifest),
        _importance(manifest),
        _int8(manifest),
        _pictures(figures),
        _training(manifest),
        _listing(folder),
    )
    (folder / "README.md").write_text("\n".join(filter(None, sections)), "utf-8")


def _front_matter(manifest: Manifest) -> str:
    task = _task(manifest)
    pipeline = f"pipeline_tag: {task}\n" if task else ""
    tags = "tags:\n- onnx\n- keras\n- hornbill\n"
    return f"---\nlibrary_name: onnx\n{pipeline}{tags}{_results(manifest, task)}---\n"


def _results(manifest: Manifest, task: str | None) -> str:
    if not manifest.metrics or not task:
        return ""
    source = _quoted(manifest.data["source"])
    metrics = "".join(
        f"    - type: {name}\n      value: {_plain_number(value)}\n"
        for name, value in manifest.metrics.items()
    )
    return (
        f"model-index:\n- name: {manifest.name}\n  results:\n  - task:\n      type: {task}\n"
        f"    dataset:\n      name: {source}\n      type: {source}\n      split: test\n"
        f"    metrics:\n{metrics}"
    )


def _plain_number(value: float) -> str:
    """Return a number without an exponent, which YAML 1.1 would take for a text."""
    return f"{Decimal(f'{value:.6g}'):f}"


def _task(manifest: Manifest) -> str | None:
    """Return Hugging Face's name for the task; None if it has none or the task is unknown."""
    if manifest.columns or manifest.string_columns:
        is_regression = manifest.task == "regression"
        return "tabular-regression" if is_regression else "tabular-classification"
    is_image = len(manifest.inputs) == 1 and len(manifest.inputs[0].shape) in (3, 4)
    return "image-classification" if is_image and manifest.task == "multiclass" else None


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _summary(manifest: Manifest) -> str:
    metrics = ", ".join(_measured_metric(manifest, name) for name in manifest.metrics)
    units = {label: f"{label} in {unit}" for label, unit in manifest.target_units.items()}
    labels = _names(units.get(label, label) for label in manifest.labels)
    kind, count = TASKS[manifest.task], len(manifest.labels)
    what = f"a {kind.removesuffix('s')}" if count == 1 else f"{count} {kind}"
    purpose = f" for {what}: {labels}" if count else ""
    measured = (
        f"\nMeasured on {manifest.measured_on}: {metrics}.{_methods(manifest)}\n" if metrics else ""
    )
    kind = "Keras" if manifest.family == "keras" else f"`{manifest.family}`"
    return f"A {kind} model of {manifest.parameters:,} parameters{purpose}.\n{measured}"


def _metric(manifest: Manifest, name: str) -> str:
    return metric_name(name, manifest.positive and _plain(manifest.positive))


def _measured_metric(manifest: Manifest, name: str) -> str:
    """Return a metric with its interval, such as `accuracy 97.3% (96.9% to 97.6%)`."""
    text = f"{_metric(manifest, name)} {write_score(name, manifest.metrics[name])}"
    found = manifest.metric_intervals.get(name)
    if found is None:
        return text
    return f"{text} ({write_score(name, found.low)} to {write_score(name, found.high)})"


def _methods(manifest: Manifest) -> str:
    """Return how the intervals of the metrics were made, as a sentence; empty without any."""
    by_method: dict[str, list[str]] = {}
    for name, found in manifest.metric_intervals.items():
        by_method.setdefault(found.method, []).append(metric_name(name))
    parts = [
        f"{_METHODS.get(method, method)} for {', '.join(names)}"
        for method, names in by_method.items()
    ]
    return f" The 95% intervals in parentheses are {'; '.join(parts)}." if parts else ""


def _comparison(manifest: Manifest) -> str:
    """Return the metrics beside those of simple models, and where the model is no better."""
    others = manifest.reference_scores
    warnings = "".join(f"\n**Warning:** {_plain(line)}.\n" for line in manifest.warnings)
    if not others:
        return warnings
    names = {"constant": "a constant", "linear": "a linear model"}
    heads = ("metric", "this model", *(names.get(name, name) for name in others))
    rows = [
        (
            _metric(manifest, name),
            *(_score(s, name) for s in (manifest.metrics, *others.values())),
        )
        for name in manifest.metrics
    ]
    few = manifest.data.get("linear_samples")
    fewer = f" The linear model was trained on {few:,} of its samples." if few else ""
    return (
        "## Comparison\n\nSimple models were trained on the same split and measured on the same "
        f"samples.{fewer}\n\n{_table(heads, rows)}{warnings}"
    )


def _score(scores: dict[str, float], name: str) -> str:
    return write_score(name, scores[name]) if name in scores else ""


def _importance(manifest: Manifest) -> str:
    found = manifest.importance
    if found is None:
        return ""
    rows = [
        (_plain(row.name), f"{row.drop:.3f}", f"{row.low:.3f} to {row.high:.3f}")
        for row in found.columns[:_SHOWN_COLUMNS]
    ]
    which = f", for the first {len(rows)}" if len(rows) < len(found.columns) else ""
    heads = ("column", "falls by", "95% interval")
    return (
        f"## Columns\n\nHow far {metric_name(found.score)} falls if the values of a column are "
        f"permuted among {found.measured_on}{which}.\n\n{_table(heads, rows)}"
    )


def _signature(manifest: Manifest) -> str:
    rows = [("input", spec) for spec in manifest.inputs]
    rows += [("output", spec) for spec in manifest.outputs]
    body = _table(
        ("", "name", "dtype", "shape"),
        [(role, f"`{spec.name}`", spec.dtype, _shape(spec)) for role, spec in rows],
    )
    columns = _columns(manifest)
    steps = "".join(f"{n}. `{step}`\n" for n, step in enumerate(manifest.preprocessing, start=1))
    inside = (
        f"\nThe graph takes raw inputs and preprocesses them itself:\n\n{steps}" if steps else ""
    )
    batch = f"\n{describe_batch(manifest)}\n" if manifest.whole_batches else ""
    return f"## Signature\n\n{body}{batch}{columns}{inside}"


def _columns(manifest: Manifest) -> str:
    lines = ""
    if manifest.columns:
        lines += f"\nColumns of `inputs`, in order: {_names(manifest.columns)}.\n"
    if manifest.nullable_columns:
        lines += f"\nNaN stands for a missing value in: {_names(manifest.nullable_columns)}.\n"
    if manifest.string_columns:
        lines += (
            f"\nColumns of `texts`, in order: {_names(manifest.string_columns)}. An empty "
            "string stands for a missing value. Strings that training never saw count as unknown.\n"
        )
    return lines


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join(map(str, spec.shape)) + "]"


def _usage(manifest: Manifest) -> str:
    arrays = "\n".join(map(_zeros, manifest.inputs))
    feed = ", ".join(f'"{spec.name}": {spec.name}' for spec in manifest.inputs)
    show = _shown_prediction(manifest)
    output = manifest.prediction_output or manifest.outputs[0].name
    rows = _raw_rows(manifest)
    return f"""## Use

With ONNX Runtime alone:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{MODEL}")
{arrays}
(prediction,) = session.run(["{output}"], {{{feed}}})
print({show})
```
{rows}
To check this version on your machine: `hornbill verify {manifest.version}` in the parent folder.
"""


def _raw_rows(manifest: Manifest) -> str:
    if manifest.row_format is None:
        return ""
    units = [f"{one.name} in {one.unit}" for one in manifest.row_format.columns if one.unit]
    cells = f" Numbers may have their unit behind them: {_names(units)}." if units else ""
    return _RAW_ROWS.format(manifest.name, cells)


def _shown_prediction(manifest: Manifest) -> str:
    """Return the expression that decides as `serving.decisions.decide` does."""
    thresholds = manifest.thresholds
    if manifest.task == "multilabel":
        return f"prediction >= {0.5 if thresholds is None else list(thresholds.values)}"
    if manifest.task != "multiclass":
        return "prediction"
    if thresholds is None:
        return "prediction.argmax(axis=1)"
    if len(thresholds.values) > 2:
        return f"(prediction / {list(thresholds.values)}).argmax(axis=1)"
    return f"(prediction[:, 1] >= np.float64({thresholds.values[1]})).astype(int)"


def _zeros(spec: TensorSpec) -> str:
    # A named axis takes any size.
    first = spec.shape[0] if isinstance(spec.shape[0], int) else 1
    shape = ", ".join(str(n) if isinstance(n, int) else "64" for n in (first, *spec.shape[1:]))
    if spec.dtype == "string":
        return f'{spec.name} = np.full(({shape}), "", object)'
    return f"{spec.name} = np.zeros(({shape}), np.{spec.dtype})"


def _evidence(manifest: Manifest) -> str:
    proof = manifest.proof
    rows = [
        (
            item.artifact,
            f"`{item.output}`",
            str(item.batch_size),
            f"{item.max_absolute_difference:.1e}",
            f"{item.max_relative_difference:.1e}",
            "" if item.top1_match is None else f"{item.top1_match:.0%}",
        )
        for item in proof.parity
    ]
    heads = (
        "artifact", "output", "batch size", "largest difference from Keras", "relative difference",
        "same top-1",
    )  # fmt: skip
    by_value = "" if manifest.values is None else "; each predicted value by itself"
    return (
        f"## Proof\n\nEach artifact was run on {proof.samples:,} samples ({proof.source})"
        f"{_edge_cases(proof.edge_cases)}, and compared with the Keras model. "
        f"Allowed differences: {_allowed(proof.tolerances)}{by_value}. A model that exceeds one "
        "is not published.\n\n"
        f"{_table(heads, rows)}"
    )


def _edge_cases(names: Sequence[str]) -> str:
    return f" and on edge cases ({', '.join(names)})" if names else ""


def _allowed(tolerances: dict[str, float]) -> str:
    spoken = [
        f"{value:g} in probabilities"
        if name == "probabilities"
        else f"{value:g} of the largest magnitude in other {name} outputs"
        for name, value in tolerances.items()
    ]
    return "; ".join([*spoken, "none in integers"])


def _confidence(manifest: Manifest) -> str:
    text = ""
    if manifest.calibration is not None:
        text += _calibration(manifest, manifest.calibration)
    if manifest.reject_option is not None:
        option = manifest.reject_option
        right = "none" if option.accuracy is None else f"{option.accuracy:.2%}"
        text += (
            f"\nPredictions with a probability of {write_probability(option.threshold)} or more "
            f"are accepted. The threshold was chosen on {option.chosen_on} for an accuracy of "
            f"{option.target_accuracy:.2%}. On {option.measured_on} it accepts "
            f"{option.coverage:.2%} of the predictions, of which {right} are right.\n"
        )
    text += _thresholds(manifest) + _intervals(manifest)
    return f"## Confidence\n\n{text}" if text else ""


def _calibration(manifest: Manifest, found: Calibration) -> str:
    classwise = found.classwise_ece_after is not None
    error = f"On {found.measured_on} the expected calibration error"
    if found.temperature == 1 and not found.bias:
        every = f"; averaged over all labels, it is {found.classwise_ece_after:.4f}"
        return (
            f"Logits are not divided by a temperature, since none makes {found.fitted_on} "
            f"significantly more likely. {error} is {found.ece_after:.4f}"
            f"{every if classwise else ''}.\n"
        )
    changed = f"changes from {found.ece_before:.4f} to {found.ece_after:.4f}"
    if classwise:
        changed += (
            f"; averaged over all labels, from {found.classwise_ece_before:.4f} to "
            f"{found.classwise_ece_after:.4f}"
        )
    added = ""
    if found.bias:
        pairs = zip(manifest.labels, found.bias, strict=True)
        shifts = ", ".join(f"{_plain(label)} {shift:+.3f}" for label, shift in pairs)
        added = f" and adds a bias ({shifts})"
    return (
        f"The graph divides logits by a temperature of {found.temperature:.3f}{added}, fitted on "
        f"{found.fitted_on}. {error} {changed}.\n"
    )


def _thresholds(manifest: Manifest) -> str:
    found = manifest.thresholds
    if found is None:
        return ""
    rows = [
        (
            _plain(label),
            write_probability(threshold),
            write_percent(precision),
            write_percent(recall),
        )
        for label, threshold, precision, recall in zip(
            manifest.labels, found.values, found.precision, found.recall, strict=True
        )
    ]
    rule = f"`{found.rule}`" + ("" if found.positive is None else f" for {_plain(found.positive)}")
    how = "A label is predicted from its threshold on."
    if manifest.task == "multiclass" and found.positive is None:
        how = "The class is predicted whose probability is largest relative to its threshold."
    return (
        f"\n{how} Thresholds were chosen on "
        f"{found.chosen_on} by the rule {rule}, and measured on {found.measured_on}.\n\n"
        f"{_table(('label', 'threshold', 'precision', 'recall'), rows)}"
    )


def _intervals(manifest: Manifest) -> str:
    found = manifest.intervals
    if found is None:
        return ""
    rows = [
        (_plain(label), write_number(width), write_percent(coverage))
        for label, width, coverage in zip(
            manifest.labels, found.half_widths, found.measured_coverage, strict=True
        )
    ]
    return (
        "\nAn interval from the value minus the half width to the value plus the half width "
        f"contains the true value with a probability of {found.coverage:.0%} (split conformal "
        f"prediction, fitted on {found.fitted_on}). The coverage was measured on "
        f"{found.measured_on}.\n\n{_table(('value', 'half width', 'coverage'), rows)}"
    )


def _int8(manifest: Manifest) -> str:
    if manifest.int8 is None:
        return ""
    found = manifest.int8
    is_regression = manifest.task == "regression"
    score = f"{'R²' if is_regression else 'accuracy'} on {found.measured_on}"
    form = "{:.4f}" if is_regression else "{:.2%}"
    rows = [
        ("latency at batch size 1, int8 / float32", f"{found.latency_ratio_1:.2f}"),
        ("latency at batch size 64, int8 / float32", f"{found.latency_ratio_64:.2f}"),
        (f"{score}, float32", _measured(form, found.accuracy_float32)),
        (f"{score}, int8", _measured(form, found.accuracy_int8)),
    ]
    if found.agreement is not None:
        rows.append(_agreement(found.agreement, found.agreement_low))
    if found.largest_sum is not None:
        limit = f"largest sum of two products (at most {LARGEST_SUM:,})"
        rows.append((limit, f"{found.largest_sum:,}"))
    is_kept = f"kept, as `{INT8}`" if found.kept else "not kept"
    return (
        f"## int8\n\nA quantized model was calibrated on {found.calibrated_on}. It was "
        f"{is_kept}.\n\n{_table(('measure', 'value'), rows)}"
    )


def _agreement(value: float, low: float | None) -> tuple[str, str]:
    if low is None:
        return "lowest R² of a value, int8 against float32", f"{value:.6g}"
    measure = "samples decided alike, int8 and float32 (95% interval from)"
    return measure, f"{write_percent(value)} ({write_percent(low)})"


def _measured(form: str, value: float | None) -> str:
    return "unknown" if value is None else form.format(value)


def _pictures(figures: Sequence[str]) -> str:
    return "".join(
        f"![{Path(name).stem.replace('_', ' ')}](figures/{name})\n\n" for name in figures
    )


def _training(manifest: Manifest) -> str:
    settings = _table(
        ("setting", "value"), [(f"`{k}`", f"`{_setting(v)}`") for k, v in manifest.config.items()]
    )
    versions = ", ".join(f"{name} {number}" for name, number in manifest.environment.items())
    made = f"Exported {manifest.created} with {versions}. Needs ONNX Runtime "
    made += f"{manifest.lowest_onnxruntime} or later.\n"
    if not manifest.config:
        return f"## Origin\n\n{made}"
    return (
        f"## Training\n\nData: `{manifest.data['source']}`, SHA-256 "
        f"`{manifest.data['sha256']}`.\n\n{settings}\n{made}"
    )


def _setting(value: object) -> str:
    """Return a value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listing(folder: Path) -> str:
    left_out = () if (folder / KERAS_MODEL).exists() else (KERAS_MODEL,)
    rows = [(f"`{name}`", purpose) for name, purpose in _FILES.items() if name not in left_out]
    return f"## Files\n\n{_table(('file', 'what it is'), rows)}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(_plain, names))


def _plain(text: str) -> str:
    """Return text on one line, without the signs that Markdown would take for its own."""
    return _MARKS.sub(r"\\\g<0>", printable(text))
