"""Measures how abstract each layer of the digit net is, with a linear probe and a projection."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.config.run_config import make_config
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.evaluation.estimates import difference, mean_estimate
from app.reports.plotting import COLORS, MARKERS
from app.studies.nets import outputs
from app.studies.panels import arms, legend_beside, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.fit import fit

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


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training and probing of one net per seed."""
    return {f"seed {seed}": partial(_train, seed, effort) for seed in range(effort.seeds)}


def _train(seed: int, effort: Effort) -> dict[str, Any]:
    digits = load_dataset("digits8x8")
    config = make_config("digits", {"epochs": effort.choose(10, 2)}, seed=seed)
    splits = split_dataset(digits, seed, config.training.validation_split)
    model = fit(config, digits, splits).model
    # "fit_ink" is the image as the net preprocesses it for the first block.
    names = ["fit_ink", *list(LAYERS)[1:]]
    layers = keras.Model(model.input, [model.get_layer(name).output for name in names])

    def features(indices: np.ndarray) -> list[np.ndarray]:
        found = outputs(layers, digits.inputs[indices])
        return [layer.reshape(len(indices), -1) for layer in found]

    chosen = np.random.default_rng(seed).permutation(splits.train)[:PROBE_SAMPLES]
    labels, tests = digits.targets[chosen], digits.targets[splits.test]
    accuracies, points = [], []
    for seen, unseen in zip(features(chosen), features(splits.test), strict=True):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        accuracies.append(probe.fit(seen, labels).score(unseen, tests))
        points.append(PCA(2, random_state=0).fit_transform(unseen))
    numbers: dict[str, Any] = {"accuracies": accuracies}
    if seed == 0:
        numbers |= {"points": points, "classes": tests}
    return numbers


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on the accuracy of the probes, layer by layer."""
    accuracies = np.array([numbers["accuracies"] for numbers in found.values()])  # seeds, layers
    gained = difference(accuracies[:, -1], accuracies[:, 0])
    steps = [
        difference(after, before)
        for before, after in zip(accuracies.T, accuracies.T[1:], strict=False)
    ]
    rising = sum(step.low > 0 for step in steps)
    ends = [mean_estimate(accuracies[:, place]) for place in (0, -1)]
    return [
        Check(
            "gained",
            gained.low > 0,
            {"pixels": f"{ends[0]:.1%}", "features": f"{ends[1]:.1%}"},
        ),
        Check("steps", rising == len(steps), {"rising": f"{rising}/{len(steps)}"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw the probes' accuracies, and the test digits along two principal components per layer."""
    first = next(iter(found.values()))
    classes = np.array(first["classes"])
    with panels(path, 6) as axes:
        accuracies = np.array([numbers["accuracies"] for numbers in found.values()]).T
        names = list(LAYERS.values())
        arms(axes[0], dict(zip(names, accuracies, strict=True)), "accuracy of a linear probe")
        for panel, name, points in zip(axes[1:], names, first["points"], strict=True):
            for label in range(10):
                color, marker = COLORS[label % len(COLORS)], MARKERS[label // len(COLORS)]
                own = np.array(points)[classes == label]
                panel.scatter(*own.T, s=10, color=color, marker=marker, label=str(label))
            panel.set(xlabel="first component", ylabel="second component", xticks=[], yticks=[])
            panel.set_title(name, fontsize=10)
        legend_beside(axes[-1], title="digit")


STUDY = Study(5, parts, judge, draw)
