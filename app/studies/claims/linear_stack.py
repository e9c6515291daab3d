"""Two layers without a non-linearity between them collapse into one: 4→5→3 equals 4→3."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.evaluation.estimates import difference, mean_estimate, scientific
from app.studies.nets import (
    build_replicas,
    configure,
    learning_weights,
    losses,
    outputs,
    predictions,
)
from app.studies.panels import AMBER, MAIN, PLAIN, arms, curve, panels
from app.studies.signs import above, proved, within
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

HIDDEN = 5
EXACT, SAME_LOSS = 1e-5, 0.005  # largest differences of probabilities, and of losses in nats
BENT = 0.01  # difference of probabilities above which two functions count as different
LOOKS = {"single": PLAIN, "stack": AMBER, "tanh": MAIN}
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
        "repeat": effort.choose(500, 100),
        "optimizer.learning_rate": 0.2,
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


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the outputs and the losses of all seeds."""
    single, stack, tanh = (np.array(found[arm]["losses"], float)[-1] for arm in ARMS)
    apart = difference(stack, single)
    largest, bent = max(found["stack"]["collapsed"]), mean_estimate(found["tanh"]["collapsed"])
    return [
        Claim(
            "product", proved(largest <= EXACT), {"largest": scientific(largest)}, is_theorem=True
        ),
        Claim("loss", within(apart, -SAME_LOSS, SAME_LOSS), {"apart": f"{abs(apart):.4f}"}),
        Claim("bent", above(bent, BENT), {"apart": f"{bent:.3f}"}),
        compared("gained", difference(single, tanh), 4),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the training losses, and how far each product is from its net."""
    names = {"single": "4→3", "stack": "4→5→3", "tanh": "4→5→3 with tanh"}
    with panels(folder, 2) as (left, right):
        for arm, name in names.items():
            values = np.array(found[arm]["losses"], float)
            progress = np.arange(1, len(values) + 1) / len(values)
            curve(left, progress, values, name, LOOKS[arm])
        left.set(
            xlabel="fraction of the training steps", ylabel="training loss (nats)", yscale="log"
        )
        left.legend()
        apart = {names[arm]: found[arm]["collapsed"] for arm in ("stack", "tanh")}
        looks = {names[arm]: LOOKS[arm] for arm in names}
        arms(
            right, apart, "largest difference of probabilities\nafter multiplying the layers", looks
        )
        right.set_xscale("log")


STUDY = Study(20, parts, judge, draw)
