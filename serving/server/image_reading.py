"""Reads the image files of requests in threads: large ones in turn, beside the others."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..images import read_header
from ..inputs import read_model_image
from ..manifest import Manifest
from .errors import RequestError

# Each takes up to about a second; more would wait for longer than clients do.
_MAX_LARGE = 16


class ImageReader:
    """Reads images for use on one event loop.

    Only one large image is decoded at a time, for the sake of memory. Those that wait for it hold
    no thread, so that small images are read meanwhile.
    """

    def __init__(self, threads: int) -> None:
        """Make a reader that reads up to `threads` small images at a time."""
        self._threads = ThreadPoolExecutor(threads, "hornbill-images")
        self._large_thread = ThreadPoolExecutor(1, "hornbill-large-images")
        self._num_large = 0

    async def read(self, body: bytes, manifest: Manifest) -> np.ndarray:
        """Return an image as `serving.inputs.read_model_image` does.

        Raises:
            InputError: the image cannot be read.
            RequestError: it is large, and too many large ones wait.
        """
        run = asyncio.get_running_loop().run_in_executor
        image = await run(self._threads, _read_unless_large, body, manifest)
        if image is not None:
            return image
        if self._num_large == _MAX_LARGE:
            raise RequestError(
                f"At most {_MAX_LARGE} large images may wait. Received: one more.",
                503,
                {"retry-after": "5"},
            )
        self._num_large += 1
        try:
            return await run(self._large_thread, read_model_image, body, manifest)
        finally:
            self._num_large -= 1

    def close(self) -> None:
        """End the threads; images that wait are not read."""
        self._threads.shutdown(cancel_futures=True)
        self._large_thread.shutdown(cancel_futures=True)


def _read_unless_large(body: bytes, manifest: Manifest) -> np.ndarray | None:
    return None if read_header(body).is_large else read_model_image(body, manifest)
