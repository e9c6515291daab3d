"""A golden sample that the server sends to itself, to see that it answers as when it was loaded."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from ..manifest import Manifest
from .batching import Arrays
from .open_inference import JSON_LENGTH, OpenInference
from .tensors import datatype_of, to_binary

_RUNS = 3


class SentHeaders(dict[str, str]):
    """The part of Granian's headers by which a request is read."""

    def get_all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [self[name]] if name in self else []


class SelfTest(NamedTuple):
    """An inference request with its only right response.

    Attributes:
        body: body of the request, with binary tensors.
        headers: its headers.
        expected: body of the response, to the bit.
    """

    body: bytes
    headers: SentHeaders
    expected: bytes


def make_selftest(
    manifest: Manifest,
    open_inference: OpenInference,
    run: Callable[[Arrays], list[np.ndarray]],
    golden: Arrays,
) -> SelfTest | None:
    """Return the test of a version; None if its answers vary, as those of random operators do.

    The samples do not go through the reading of requests, so that the test covers it.

    Args:
        manifest: manifest of the version.
        open_inference: reads and writes its requests.
        run: runs the version alone.
        golden: its golden inputs. One sample is sent, or all if it takes whole batches.
    """
    arrays = golden
    if not manifest.whole_batches:
        arrays = {name: array[:1] for name, array in golden.items()}
    tensors = {name: to_binary(array) for name, array in arrays.items()}
    inputs = [
        {
            "name": spec.name,
            "datatype": datatype_of(spec.dtype),
            "shape": arrays[spec.name].shape,
            "parameters": {"binary_data_size": len(tensors[spec.name])},
        }
        for spec in manifest.inputs
    ]
    text = msgspec.json.encode({"inputs": inputs, "parameters": {"binary_data_output": True}})
    body = b"".join([text, *(tensors[spec.name] for spec in manifest.inputs)])
    inference = open_inference.read(body, len(text))
    answers = {open_inference.write(inference, run(arrays)).body for _ in range(_RUNS)}
    if len(answers) > 1:
        return None
    headers = SentHeaders({JSON_LENGTH: str(len(text))})
    return SelfTest(body, headers, answers.pop())
