"""A 2-2-2-2 sigmoid network with hand-set weights, in Keras, SavedModel and ONNX."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.studies.panels import MAIN, panels
from app.studies.signs import proved
from app.studies.study import Claim, Effort, Parts, Study
from export import ExportOptions, ModelFacts, export_bundle
from export.saved_model import load_saved_model
from models import FeatureExtractorConfig, RowsConfig
from models.features import feature_extractor
from serving import Predictor

# Each row holds the weights of one neuron.
WEIGHTS = ([[1, -2], [-1, 1]], [[2, -1], [-2, -1]], [[3, -1], [-1, 4]])
BIASES = ([1, 0], [0, 0], [-2, 2])
INPUTS = ((1, -1), (0, 0))
# For each input and each layer, the outputs of the neurons to two decimals.
EXPECTED = (
    ((0.98, 0.12), (0.86, 0.11), (0.62, 0.83)),
    ((0.73, 0.50), (0.72, 0.12), (0.51, 0.85)),
)
LAYERS = ("layer1", "layer2", "layer3")
RUNTIMES = ("Keras", "SavedModel", "ONNX")


def worked_example() -> keras.Model:
    """Return the network: float32 `inputs` `(batch, 2)` to the outputs of its three layers."""
    config = FeatureExtractorConfig(
        rows=RowsConfig(num_columns=2),
        hidden=(2, 2),
        activation="sigmoid",
        normalization="none",
        dropout=0.0,
        head="sigmoid",
        many_labels=True,
        num_outputs=2,
    )
    net = feature_extractor(config)
    weights = [np.array(w, np.float32).T for w in WEIGHTS]
    for variable, value in zip(
        net.trainable_variables,
        [item for pair in zip(weights, BIASES, strict=True) for item in pair],
        strict=True,
    ):
        variable.assign(value)
    layers = (net.get_layer("hidden1").output, net.output["features"], net.output["probabilities"])
    return keras.Model(net.input, dict(zip(LAYERS, layers, strict=True)), name="worked_example")


def parts(_: Effort) -> Mapping[str, Any]:
    """Return the only computation, which has no seeds."""
    return {"values": _compute}


def _compute() -> dict[str, Any]:
    inputs = np.array(INPUTS, np.float32)
    model = worked_example()
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_bundle(
            model, folder, "worked_example", ModelFacts(), options=ExportOptions(int8="never")
        )
        outputs = {
            "Keras": model.predict(inputs, verbose=0),
            "SavedModel": load_saved_model(bundle)(inputs=inputs),
            "ONNX": Predictor.load(bundle).predict(inputs).outputs,
        }
    return {
        runtime: [np.asarray(found[layer]) for layer in LAYERS]
        for runtime, found in outputs.items()
    }


def judge(found: Parts) -> Sequence[Claim]:
    """Return for each runtime whether every neuron has the expected value to two decimals."""
    claims = []
    for runtime in RUNTIMES:
        values = np.array(found["values"][runtime], float).transpose(
            1, 0, 2
        )  # input, layer, neuron
        apart = float(np.abs(values - np.array(EXPECTED)).max())
        is_same = bool((values.round(2) == np.array(EXPECTED)).all())
        figures = {"runtime": runtime, "apart": f"{apart:.4f}"}
        claims.append(Claim("decimals", proved(is_same), figures, is_theorem=True))
    return claims


def draw(found: Parts, folder: Path) -> None:
    """Draw the network with the outputs of its neurons, for both inputs."""
    with panels(folder, 2) as axes:
        for number, panel in enumerate(axes):
            columns = [INPUTS[number], *(layer[number] for layer in found["values"]["ONNX"])]
            _draw_net(panel, columns)


def _draw_net(axes: Any, columns: Sequence[Sequence[float]]) -> None:
    for layer, weights in enumerate(WEIGHTS):
        for (after, before), weight in np.ndenumerate(np.array(weights)):
            axes.plot([layer, layer + 1], [-before, -after], color="#bbbbbb", linewidth=1, zorder=1)
            place = 0.3 if before == after else 0.38
            height = -before + place * (before - after)
            axes.text(layer + place, height + 0.05, f"{weight:g}", fontsize=9, ha="center")
    for layer, values in enumerate(columns):
        for neuron, value in enumerate(values):
            axes.scatter(layer, -neuron, s=1300, color="white", edgecolors=MAIN.color, zorder=2)
            text = f"{value:.2f}" if layer else f"{value:g}"
            axes.text(layer, -neuron, text, ha="center", va="center", color=MAIN.color, zorder=3)
            if layer:
                bias = BIASES[layer - 1][neuron]
                axes.text(layer, -neuron + 0.25, f"bias {bias:g}", ha="center", fontsize=9)
    axes.set(xlim=(-0.4, 3.4), ylim=(-1.5, 0.6), yticks=[])
    axes.set_xticks(range(4), ["input", *(f"layer {number}" for number in (1, 2, 3))])
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


STUDY = Study(1, parts, judge, draw)
