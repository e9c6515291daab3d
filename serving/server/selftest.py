"""A golden sample that the server sends to itself, to see that it answers as when it was loaded."""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import msgspec
import numpy as np

from ..manifest import Manifest
from ..parity import take_samples
from .batching import Arrays
from .open_inference import JSON_LENGTH, OpenInference
from .tensors import datatype_of, to_binary

_RUNS = 3


class SelfTest(NamedTuple):
    """An inference request with its only right response.

    Attributes:
        body: body of the request, with binary tensors.
        headers: its headers.
        expected: body of the response, to the bit.
    """

    body: bytes
    headers: dict[str, str]
    expected: bytes


class SentBody:
    """The part of Granian's protocol by which a body is read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self) -> bytes:
        """Return the whole body."""
        return self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the whole body."""
        yield self._body


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
    arrays = golden if manifest.whole_batches else take_samples(golden, np.arange(1))
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
    answers = {open_inference.write(inference, run(arrays))[0] for _ in range(_RUNS)}
    if len(answers) > 1:
        return None
    headers = {"content-length": str(len(body)), JSON_LENGTH: str(len(text))}
    return SelfTest(body, headers, answers.pop())
