"""How much of a gradient is left after 2 to 30 layers of sigmoid, tanh or ReLU."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import mean_estimate, power_estimate, scientific
from app.studies.gradients import gradients
from app.studies.nets import build_replicas, configure, prepared, rows
from app.studies.panels import ACTIVATIONS, AMBER, LIMIT, MAIN, PLAIN, curve, panels
from app.studies.signs import above, below, proved
from app.studies.study import Claim, Effort, Parts, Study

WIDTH = 32
DEPTHS = (2, 5, 10, 20, 30)
# The initializer that suits each activation.
ARMS = {"sigmoid": "xavier_normal", "tanh": "xavier_normal", "relu": "kaiming_normal"}
LOOKS = {"sigmoid": PLAIN, "tanh": AMBER, "relu": MAIN}
SLOPE = 0.25  # largest slope of a sigmoid
HALF = 0.5  # factor of a layer below which a gradient shrinks by more than half
KEPT = 0.1  # smallest fraction of a gradient that ReLU must keep through all layers
# float32 rounds each of up to 30 products by 6e-8.
ROUNDING = 1e-4


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the gradients of each activation at each depth; nothing is trained."""
    depths = DEPTHS if not effort.quick else (2, 10)
    return {
        f"{activation}, {depth} layers": partial(_measure, activation, depth, effort.seeds)
        for activation in ARMS
        for depth in depths
    }


def _measure(activation: str, depth: int, seeds: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    samples = rows("noise", random.normal(size=(64, WIDTH)), random.permutation(np.arange(64) % 2))
    settings = {
        "hidden": [WIDTH] * depth,
        "activation": activation,
        "initializer": ARMS[activation],
    }
    model = build_replicas(configure(settings, seeds), samples, np.arange(64))
    # For one sample, the gradient of a bias is the gradient of the activation's input.
    inputs = prepared(model, samples, np.arange(1))
    found = gradients(model, inputs, np.eye(2, dtype="float32")[samples.targets[:1]])
    layers = [*(f"hidden{n}_dense" for n in range(1, depth)), "features_dense", "probabilities"]
    norms = np.stack([np.linalg.norm(found[f"{layer}/bias"], axis=1) for layer in layers])
    kernels = [keras.ops.convert_to_numpy(model.get_layer(layer).kernel) for layer in layers]
    spectral = np.stack([np.linalg.norm(kernel, 2, axis=(1, 2)) for kernel in kernels])
    # For each layer, the product of the norms of all kernels that the gradient passes.
    passed = np.cumprod(spectral[:0:-1], axis=0)[::-1]
    shrunk = norms[:-1] / (norms[-1] * passed)
    return {
        "activation": activation,
        "depth": depth,
        "norms": norms[:-1] / norms[-1],
        "shrunk": shrunk,
    }


def _exceeding(numbers: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many gradients exceed their bound, and how many there are."""
    shrunk = np.array(numbers["shrunk"], float)
    slopes = np.arange(len(shrunk), 0, -1)[:, np.newaxis]
    return int((shrunk > SLOPE**slopes * (1 + ROUNDING)).sum()), shrunk.size


def _per_layer(numbers: Mapping[str, Any]) -> np.ndarray:
    """Return the mean factor per layer from the last hidden layer to the first, `(seeds,)`."""
    norms = np.array(numbers["norms"], float)
    factors: np.ndarray = (norms[0] / norms[-1]) ** (1 / (len(norms) - 1))
    return factors


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the norms of the gradients in every layer and seed."""
    sigmoid = [n for n in found.values() if n["activation"] == "sigmoid"]
    above_bound, counted = (sum(pair) for pair in zip(*map(_exceeding, sigmoid), strict=True))
    deepest = max(n["depth"] for n in found.values())
    ten = next(n for n in sigmoid if n["depth"] == 10)
    largest = float(np.max(np.array(ten["shrunk"])[0]))
    at_most = {n["activation"]: n for n in found.values() if n["depth"] == deepest}
    factor = mean_estimate(_per_layer(at_most["sigmoid"]))
    kept = power_estimate(np.log10(np.array(at_most["relu"]["norms"], float)[0]))
    depth = str(deepest)
    bound = {
        "held": f"{counted - above_bound:,}/{counted:,}",
        "largest": scientific(largest),
        "bound": scientific(SLOPE**10),
    }
    return [
        Claim("bound", proved(above_bound == 0), bound, is_theorem=True),
        Claim("sigmoid", below(factor, HALF), {"factor": f"{factor:.3f}", "depth": depth}),
        Claim("relu", above(kept, KEPT), {"kept": f"{kept:.2f}", "depth": depth}),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the norms by layer of the deepest nets, and those of the first layer by depth."""
    deepest = max(n["depth"] for n in found.values())
    with panels(folder, 2) as (left, right):
        for activation, look in LOOKS.items():
            own = [n for n in found.values() if n["activation"] == activation]
            norms = next(np.log10(n["norms"]) for n in own if n["depth"] == deepest)
            curve(left, np.arange(1, deepest + 1), norms, ACTIVATIONS[activation], look)
            first = [np.log10(n["norms"])[0] for n in own]
            curve(right, [n["depth"] for n in own], first, ACTIVATIONS[activation], look)
        layers = np.arange(1, deepest + 1)
        limit = {"label": "0.25 per layer", **LIMIT}
        left.plot(layers, np.log10(SLOPE) * (deepest + 1 - layers), **limit)
        depths = sorted({n["depth"] for n in found.values()})
        right.plot(depths, np.log10(SLOPE) * np.array(depths), **limit)
        left.set(xlabel=f"layer (of {deepest})", ylabel="gradient relative to the output\n(log₁₀)")
        right.set(
            xlabel="number of layers",
            ylabel="gradient at the first layer\nrelative to the output (log₁₀)",
        )
        left.legend()


STUDY = Study(20, parts, judge, draw)
