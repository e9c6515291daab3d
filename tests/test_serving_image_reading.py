"""Reading the images of requests: large ones wait for each other, small ones do not."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from serving.bundle import read_manifest
from serving.errors import InputError
from serving.server.errors import RequestError
from serving.server.image_reading import ImageReader


def as_png(height, width):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), 7, np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


LARGE, SMALL = as_png(2_100, 2_000), as_png(28, 28)


@pytest.fixture
def reader():
    reader = ImageReader(threads=1)
    yield reader
    reader.close()


def finished(reader, bundle, bodies):
    """Read all at once; return the numbers of the bodies in the order in which they were ready."""
    order, manifest = [], read_manifest(bundle)

    async def read(number, body):
        try:
            return await reader.read(body, manifest)
        finally:
            order.append(number)

    async def read_all():
        return await asyncio.gather(
            *(read(number, body) for number, body in enumerate(bodies)), return_exceptions=True
        )

    return order, asyncio.run(read_all())


def test_small_images_do_not_wait_for_large_ones_that_wait(reader, bundle):
    order, images = finished(reader, bundle, [LARGE] * 6 + [SMALL] * 3)
    assert {6, 7, 8} < set(order[:8])
    assert all(image.shape == (28, 28) and (image == 7).all() for image in images)


def test_more_large_images_than_can_wait_are_told_to_come_later(reader, bundle):
    _, found = finished(reader, bundle, [LARGE] * 18)
    refused = [error for error in found if isinstance(error, RequestError)]
    assert [(error.status, error.headers) for error in refused] == [(503, {"retry-after": "5"})] * 2
    assert "At most 16 large images may wait. Received: one more." in str(refused[0])
    _, found = finished(reader, bundle, [LARGE])
    assert found[0].shape == (28, 28)  # there is room again


def test_an_image_that_cannot_be_read_is_refused(reader, bundle):
    _, found = finished(reader, bundle, [b"no image", LARGE[:-1000]])
    assert all(isinstance(error, InputError) for error in found)
