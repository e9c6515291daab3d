"""Arrays on disk or computed as they are read, for data that does not fit into memory."""

import math
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from app.errors import DataError
from serving.cores import available_cores
from serving.errors import InputError, reason_of

# Number of rows that are read or written at a time, and of bytes if rows are large.
CHUNK = 4096
_CHUNK_BYTES = 32_000_000
# Pixels of the images that a net sees at once in an evaluation: its first maps take fifty times the
# memory of the images.
_PIXELS_AT_ONCE = 2_400_000


def no_room(error: OSError) -> DataError:
    """Return the error of a temporary file that cannot be written."""
    return DataError(
        f"The data does not fit into the temporary folder {tempfile.gettempdir()}: "
        f"{reason_of(error)}. Set TMPDIR to a folder with more space."
    )


class DiskArray:
    """An array in an unnamed temporary file, which disappears with the process.

    Rows are appended, then read by index as from a numpy array. Only the rows that are read are in
    memory. The file is in the folder that the environment variable `TMPDIR` names.

    Args:
        sample_shape: shape of a row.
        dtype: type of the elements.

    Attributes:
        fingerprints: a hash of each row, uint64 `(rows,)`, if whoever wrote them has computed it.
    """

    fingerprints: np.ndarray | None = None

    def __init__(self, sample_shape: tuple[int, ...], dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.shape: tuple[int, ...] = (0, *sample_shape)
        self._file = tempfile.TemporaryFile(prefix="hornbill-")  # noqa: SIM115
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    @property
    def ndim(self) -> int:
        """Number of axes, including that of the rows."""
        return len(self.shape)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def append(self, rows: np.ndarray) -> None:
        """Add rows `(rows, *sample_shape)` at the end.

        Raises:
            DataError: the disk is full.
        """
        try:
            with self._lock:
                self._file.seek(0, os.SEEK_END)
                self._file.write(np.ascontiguousarray(rows, self.dtype).data)
                self._file.flush()
        except OSError as error:
            raise no_room(error) from None
        self.shape = (self.shape[0] + len(rows), *self.shape[1:])

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return a copy of the rows at a slice or an array of indices."""
        index = _checked(index, len(self))
        rows = np.empty((len(index), *self.shape[1:]), self.dtype)
        if not rows.size:
            return rows
        target, row_size = rows.reshape(-1).view(np.uint8).data, rows[0].nbytes
        # Consecutive rows are read in one call. The file is read and not memory-mapped: a map
        # would load many more rows around each one, which would count as memory in use.
        breaks = np.flatnonzero(np.diff(index) != 1) + 1
        with self._lock:
            for start, end in pairwise([0, *breaks.tolist(), len(index)]):
                self._file.seek(int(index[start]) * row_size)
                self._file.readinto(target[start * row_size : end * row_size])
        return rows


class ComputedArray:
    """An array whose rows are computed each time that they are read, in several threads.

    It takes the place of a `DiskArray` of images that do not fit on the disk.

    Args:
        sources: what each row is computed from, such as the path of a file.
        compute: function from a source to its row.
        sample_shape: shape of a row.
        dtype: type of the elements.
        fingerprints: a hash of each row, uint64 `(rows,)`.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        compute: Callable[[Any], np.ndarray],
        sample_shape: tuple[int, ...],
        dtype: Any,
        fingerprints: np.ndarray,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = (len(sources), *sample_shape)
        self.fingerprints = fingerprints
        self._sources = sources
        self._compute = compute
        self._problems: list[InputError] = []

    @property
    def problem(self) -> InputError | None:
        """Why a row could not be computed, such as a file that is gone; None if all could.

        A part of an array, see `at`, shares it with the whole. A pipeline of TensorFlow, which
        reads rows in its own threads, tells only that one could not.
        """
        return next(iter(self._problems), None)

    @property
    def ndim(self) -> int:
        """Number of axes, including that of the rows."""
        return len(self.shape)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return the rows at a slice or an array of indices.

        Raises:
            InputError: a row cannot be computed; see `problem`.
        """
        index = _checked(index, len(self))
        rows = np.empty((len(index), *self.shape[1:]), self.dtype)
        try:
            with ThreadPoolExecutor(available_cores()) as pool:
                chosen = (self._sources[number] for number in index)
                for number, row in enumerate(pool.map(self._compute, chosen)):
                    rows[number] = row
        except InputError as error:
            self._problems.append(error)
            raise
        return rows

    def at(self, indices: np.ndarray) -> "ComputedArray":
        """Return an array of the rows at `indices`, which are not computed yet."""
        sources = [self._sources[number] for number in indices]
        part = ComputedArray(
            sources, self._compute, self.shape[1:], self.dtype, self.fingerprints[indices]
        )
        part._problems = self._problems
        return part


def _checked(index: Any, count: int) -> np.ndarray:
    """Return the indices of some of `count` rows, given as a slice or as an array of indices."""
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    if len(index) and not 0 <= index.min() <= index.max() < count:
        raise IndexError(f"Rows must be from 0 to {count - 1}. Received: {index}.")
    indices: np.ndarray = index
    return indices


class OneHot:
    """One-hot rows of classes, created when they are read, since all may not fit into memory.

    Args:
        classes: int64 `(samples,)`.
        count: number of classes.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, classes: np.ndarray, count: int) -> None:
        self.shape = (len(classes), count)
        self._classes = classes
        self._rows = np.eye(count, dtype=self.dtype)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return the rows at a slice or an array of indices."""
        rows: np.ndarray = self._rows[self._classes[index]]
        return rows


class NamedArrays:
    """The arrays of a model with several inputs; its rows are dicts.

    Args:
        named: array of each input, all with the same number of rows.
    """

    dtype = np.dtype(np.uint8)
    ndim = 0

    def __init__(self, named: dict[str, Any]) -> None:
        self.named = named
        arrays = list(named.values())
        # A row counts as that many bytes.
        bytes_of = sum(math.prod(array.shape[1:]) * array.dtype.itemsize for array in arrays)
        self.shape = (len(arrays[0]), bytes_of)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """Return the rows of each array at a slice or an array of indices."""
        return {name: array[index] for name, array in self.named.items()}


Array = np.ndarray | DiskArray | ComputedArray | OneHot | NamedArrays


def array_parts(array: Array) -> list[Any]:
    """Return the arrays of several inputs in order, or the only one."""
    return list(array.named.values()) if isinstance(array, NamedArrays) else [array]


def rows_in_chunk(array: Array) -> int:
    """Return the number of rows of `array` to read or write at a time."""
    return min(CHUNK, rows_in(array, _CHUNK_BYTES))


def rows_in(array: Array, size: int) -> int:
    """Return the number of rows of `array` that take `size` bytes, at least one."""
    return max(1, size // max(1, math.prod(array.shape[1:]) * array.dtype.itemsize))


def samples_at_once(shape: Sequence[int], most: int, pixels: int = _PIXELS_AT_ONCE) -> int:
    """Return the number of samples for a net to see at once: fewer if images are large.

    Args:
        shape: shape of an array of samples, such as `(images, height, width, channels)`.
        most: the largest number, and that of anything but images.
        pixels: the largest number of pixels, unless a single image has more.
    """
    is_image = len(shape) > 3
    return max(1, min(most, pixels // max(1, math.prod(shape[1:-1])))) if is_image else most


def chunks(array: Array, indices: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield the rows of `array`, or those at `indices`, a chunk at a time."""
    count = len(array) if indices is None else len(indices)
    step = rows_in_chunk(array)
    for start in range(0, count, step):
        end = min(start + step, count)
        yield array[start:end] if indices is None else array[indices[start:end]]


def rows_at(array: Array, indices: np.ndarray) -> Array:
    """Return the rows at `indices`: a copy, on disk if `array` is; or computed as they are read."""
    if isinstance(array, ComputedArray):
        return array.at(indices)
    if not isinstance(array, DiskArray):
        rows_in_memory: np.ndarray = array[indices]
        return rows_in_memory
    copy = DiskArray(array.shape[1:], array.dtype)
    for rows in chunks(array, indices):
        copy.append(rows)
    if array.fingerprints is not None:
        copy.fingerprints = array.fingerprints[indices]
    return copy
