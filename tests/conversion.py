"""Shared by tests of conversion: models joined into one, and outputs compared as in the proof."""

import keras
import numpy as np

from serving.parity import allowed_difference, is_within, largest_difference
from serving.session import open_session


def join_models(models):
    """Return one model whose branches are `models`, so that one conversion converts them all.

    Inputs and outputs are named `<branch>__<name>`; outputs without a name get their index instead.
    """
    inputs, outputs = {}, {}
    for name, model in models.items():
        model.name = name
        starts = [
            keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"{name}__{tensor.name}")
            for tensor in model.inputs
        ]
        inputs |= {start.name: start for start in starts}
        answers = model(keras.tree.pack_sequence_as(model.input, starts))
        if isinstance(answers, dict):
            outputs |= {f"{name}__{key}": answer for key, answer in answers.items()}
        else:
            leaves = keras.tree.flatten(answers)
            outputs |= {f"{name}__{place}": answer for place, answer in enumerate(leaves)}
    return keras.Model(inputs, outputs)


def run_graph(inference, graph, inputs):
    """Return the outputs of an ONNX graph, by name."""
    session = open_session(graph.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inference.by_name(inputs)), strict=True))


def require_parity(expected, received, branch=""):
    """Require outputs within the tolerance of the proof, and of the same dtype.

    Args:
        expected: Keras' outputs, by name.
        received: those of the graph.
        branch: of a joined model; the others are not looked at.
    """
    assert received.keys() == expected.keys()
    names = [name for name in expected if name.startswith(f"{branch}__") or not branch]
    assert names
    for name in names:
        wanted, found = expected[name], received[name]
        assert found.dtype == wanted.dtype, name
        are_probabilities = name.endswith("probabilities")
        difference = largest_difference(wanted, found)
        assert is_within(difference, allowed_difference(wanted, are_probabilities)), name
        if are_probabilities:
            np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1), name)
