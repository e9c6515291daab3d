"""Two layers without a non-linearity between them collapse into one: 4→5→3 equals 4→3."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import (
    build_replicas,
    configure,
    learning_weights,
    losses,
    outputs,
    predictions,
)
from app.studies.panels import arms, curve, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.replicas import fit_replicas

HIDDEN = 5
EXACT, SAME_LOSS = 1e-6, 0.005  # largest differences of probabilities, and of losses in nats
ARMS = {"single": ([], "linear"), "stack": ([HIDDEN], "linear"), "tanh": ([HIDDEN], "tanh")}


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm."""
    return {arm: partial(_train, arm, effort) for arm in ARMS}


def _config(arm: str, effort: Effort) -> Any:
    hidden, activation = ARMS[arm]
    settings = {
        "hidden": hidden,
        "activation": activation,
        "initializer": "xavier_uniform",
        "batch_size": 150,
        "epochs": 8,
        "repeat": effort.choose(500, 70),
        "optimizer.learning_rate": 0.03,
        "optimizer.schedule": "cosine",
    }
    return configure(settings, effort.seeds)


def _train(arm: str, effort: Effort) -> dict[str, Any]:
    iris = load_dataset("iris")
    everything = np.arange(len(iris.targets))
    fitted = fit_replicas(_config(arm, effort), iris, everything)
    numbers = {"losses": losses(fitted)}
    if arm != "single":
        numbers["collapsed"] = _collapsed(fitted, iris, everything, effort)
    return numbers


def _collapsed(fitted: Any, iris: Dataset, everything: np.ndarray, effort: Effort) -> np.ndarray:
    """Return how far the product of each net's layers is from the net, `(nets,)`.

    The distance is the largest difference of probabilities over all flowers.
    """
    weights, biases, head, head_biases = map(np.float64, learning_weights(fitted.model))
    single = build_replicas(_config("single", effort), iris, everything)
    product = np.einsum("nij,njk->nik", weights, head)
    bias = np.einsum("nj,njk->nk", biases, head) + head_biases
    for variable, value in zip(single.trainable_variables, (product, bias), strict=True):
        variable.assign(value.astype(np.float32))
    inputs = iris.model_inputs(everything)
    one = outputs(single, inputs)["probabilities"]
    apart: np.ndarray = np.abs(one - predictions(fitted, iris)).max(axis=(0, 2))
    return apart


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on the outputs and the losses of all seeds."""
    single, stack, tanh = (np.array(found[arm]["losses"], float)[-1] for arm in ARMS)
    apart = difference(stack, single)
    gained = difference(single, tanh)
    largest, bent = max(found["stack"]["collapsed"]), mean_estimate(found["tanh"]["collapsed"])
    return [
        Check("product", largest <= EXACT, {"largest": f"{largest:.1e}"}, is_fact=True),
        Check(
            "loss",
            max(-apart.low, apart.high) < SAME_LOSS,
            {"apart": f"{apart:.4f}"},
        ),
        Check("bent", bent.low > 0.01, {"apart": f"{bent:.3f}"}),
        Check("gained", gained.low > 0, {"gained": f"{gained:.4f}"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw the training losses, and how far each product is from its net."""
    names = {"single": "4→3", "stack": "4→5→3, linear", "tanh": "4→5→3, tanh"}
    with panels(path, 2) as (left, right):
        for number, (arm, name) in enumerate(names.items()):
            values = np.array(found[arm]["losses"], float)
            progress = np.arange(1, len(values) + 1) / len(values)
            curve(left, progress, values, name, number)
        left.set(
            xlabel="fraction of the training steps", ylabel="training loss (nats)", yscale="log"
        )
        left.legend()
        apart = {names[arm]: found[arm]["collapsed"] for arm in ("stack", "tanh")}
        arms(right, apart, "largest difference of probabilities\nfrom the product of the layers")
        right.set_xscale("log")


STUDY = Study(20, parts, judge, draw)
