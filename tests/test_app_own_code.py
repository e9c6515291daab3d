"""Own losses, metrics and callbacks that are unusual or go wrong: what works, and what is said."""

import functools

import keras
import pytest

from app.runs import train


def squared(targets, outputs, factor=1.0):
    return factor * keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)


def quick(output, callbacks=(), **settings):
    """Train two epochs on iris."""
    settings = {"epochs": 2, **settings}
    return train(settings, output, callbacks, figures=False, model=build, data="iris")


def build():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda t, p: 2 * squared(t, p), "lambda"),
        (functools.partial(squared, factor=2), "metric"),
    ],
)
def test_a_function_of_any_name_can_be_a_loss_and_a_metric(function, name, tmp_path):
    run = quick(tmp_path, loss=function, metrics=[function])
    header = (run.folder / "history.csv").read_text().partition("\n")[0].split(",")
    assert name in header
