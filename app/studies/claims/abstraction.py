"""Measures how abstract each layer of the digit net is, with a linear probe and a projection."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from app.data.sources import load_dataset
from app.evaluation.estimates import points
from app.studies.nets import configure, outputs, split_for_replicas
from app.studies.panels import PLAIN, arms, panels
from app.studies.signs import above, every
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

LAYERS = {
    "image": "pixels",
    "block1_pool": "block 1",
    "block2_pool": "block 2",
    "block3_pool": "block 3",
    "features": "features",
}
# Training samples of a probe: few, so that its accuracy shows how linearly separable the classes
# are.
PROBE_SAMPLES = 100
TRAIN, TEST = 1437, 360  # 80% and 20% of digits8x8


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of the nets, and the probing of their layers."""
    return {"digit nets": partial(_train, effort)}


def _train(effort: Effort) -> dict[str, Any]:
    digits, seeds = load_dataset("digits8x8"), effort.seeds
    train, test = split_for_replicas(digits, seeds, TRAIN, TEST)
    settings = {
        "family": "digits",
        "normalization": "batch",
        "dropout": 0.5,
        "epochs": 1,
        "repeat": effort.choose(10, 2),
        "optimizer.schedule": "cosine",
    }
    nets = fit_replicas(configure(settings, seeds), digits, train).model
    # The pixels are the image as the net preprocesses it for the first block.
    prepare = keras.Model(nets.input, nets.get_layer("pixels").output)
    pixels = outputs(prepare, digits.model_inputs(np.arange(len(digits.targets))))
    layers = [nets.get_layer(name).output for name in list(LAYERS)[1:]]
    learning = keras.Model(nets.get_layer("replicas").output, layers)
    chosen = np.concatenate([train[:PROBE_SAMPLES], test])  # (samples, nets)
    own = pixels[chosen]  # each net sees its own samples: (samples, nets, pixels)
    found = [own, *(_by_net(layer, seeds) for layer in outputs(learning, own))]
    labels = digits.targets[chosen]
    numbers = [_probe(layer, labels) for layer in found]
    points = [PCA(2, random_state=0).fit_transform(layer[PROBE_SAMPLES:, 0]) for layer in found]
    return {"accuracies": numbers, "points": points, "classes": labels[PROBE_SAMPLES:, 0]}


def _by_net(layer: np.ndarray, nets: int) -> np.ndarray:
    """Return the features of each net at a layer, `(samples, nets, features)`."""
    if layer.ndim == 3:
        return layer
    samples, height, width, channels = layer.shape
    each = layer.reshape(samples, height * width, nets, channels // nets)
    return each.transpose(0, 2, 1, 3).reshape(samples, nets, -1)


def _probe(features: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return for each net the accuracy of a linear classifier of its features.

    Args:
        features: `(samples, nets, features)`; the first `PROBE_SAMPLES` samples train the probe.
        labels: class of each sample, `(samples, nets)`.
    """
    accuracies = []
    for net in range(features.shape[1]):
        scaler, right = StandardScaler().fit(features[:PROBE_SAMPLES, net]), labels[:, net]
        columns = scaler.transform(features[:, net])
        # The best weights are sums of training samples, so that nothing is lost in their span.
        _, _, axes = np.linalg.svd(columns[:PROBE_SAMPLES], full_matrices=False)
        columns = columns @ axes.T
        probe = LogisticRegression(max_iter=1000)
        probe.fit(columns[:PROBE_SAMPLES], right[:PROBE_SAMPLES])
        accuracies.append(probe.score(columns[PROBE_SAMPLES:], right[PROBE_SAMPLES:]))
    return accuracies


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the accuracy of the probes, layer by layer."""
    accuracies = np.array(found["digit nets"]["accuracies"], float)  # layers, seeds
    first, last = accuracies[0], accuracies[-1]
    steps = [points(after, before) for before, after in pairwise(accuracies)]
    ends = {"pixels": f"{first.mean():.1%}", "features": f"{last.mean():.1%}"}
    means = " → ".join(f"{row.mean():.1%}" for row in accuracies)
    return [
        compared("gained", points(last, first), 1, **ends),
        Claim("steps", every([above(step) for step in steps]), {"means": means}),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the probes' accuracies, and the test digits along two principal components per layer."""
    numbers = found["digit nets"]
    classes = np.array(numbers["classes"])
    with panels(folder, 6) as axes:
        names = list(LAYERS.values())
        measured = dict(zip(names, numbers["accuracies"], strict=True))
        arms(axes[0], measured, "accuracy of a linear classifier", {names[0]: PLAIN})
        colors = mpl.colormaps["tab10"](range(10))  # one for each digit
        for panel, name, places in zip(axes[1:], names, numbers["points"], strict=True):
            for digit, color in enumerate(colors):
                own = np.array(places)[classes == digit]
                panel.scatter(*own.T, s=26, color=[color], marker=f"${digit}$", linewidths=0)
            panel.set(xlabel="first component", ylabel="second component", xticks=[], yticks=[])
            panel.set_title(name, fontsize=10)


STUDY = Study(10, parts, judge, draw, quick_seeds=5)
