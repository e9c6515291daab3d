"""Images that a table holds itself, copied to a temporary file from which they are decoded."""

import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from serving.errors import InputError

from .arrays import no_room


class ImageStore:
    """An unnamed temporary file of images, as they were encoded, which disappears with the process.

    The file is in the folder that the environment variable `TMPDIR` names.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="hornbill-")  # noqa: SIM115
        self._lock = threading.Lock()
        self._size = 0
        weakref.finalize(self, self._file.close)

    def add(self, name: str, content: bytes) -> "StoredImage":
        """Append the bytes of an image, and return it as it can be read again.

        All are added before one is read.

        Raises:
            DataError: the disk is full.
        """
        try:
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise no_room(error) from None
        start, self._size = self._size, self._size + len(content)
        return StoredImage(name, self, start, len(content))

    def read(self, start: int, size: int) -> bytes:
        """Return a part of the file; several threads may read at once."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image in a store, which `serving.images.read_image` takes as a file object.

    Attributes:
        name: table and row that it comes from, such as `photos.parquet:7`.
        store: the file that it is in.
        start: where it begins.
        size: number of its bytes.
    """

    name: str
    store: ImageStore
    start: int
    size: int

    def read(self) -> bytes:
        """Return the bytes of the image."""
        return self.store.read(self.start, self.size)

    def __str__(self) -> str:
        """Return the name, which takes the place of a path."""
        return self.name


@dataclass(frozen=True, eq=False)
class MissingImage:
    """The place of an image in a table that neither holds nor names one there.

    Attributes:
        name: table and row, such as `photos.parquet:7`.
        reason: what is wrong.
    """

    name: str
    reason: str

    def read(self) -> bytes:
        """Raise `InputError`, as for an image that cannot be read."""
        raise InputError(self.reason)

    def __str__(self) -> str:
        """Return the name, which takes the place of a path."""
        return self.name


# Where an image is read from.
ImageFile = Path | StoredImage | MissingImage


def is_pipe(file: ImageFile) -> bool:
    """Return whether a file is a pipe, which would be waited for."""
    return isinstance(file, Path) and file.is_fifo()
