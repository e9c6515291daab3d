"""Which rows of a batch a process feeds, where several devices share the batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shard:
    """The part of each batch that one of several processes feeds; all follow one order.

    Every device takes as many rows, so that a batch of another size is filled up by repeating its
    last row; `filled_sizes` tells the step how many rows are samples.

    Attributes:
        index: of the process.
        processes: how many there are.
        devices: that they have together, each as many.
    """

    index: int = 0
    processes: int = 1
    devices: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether one device takes the whole batch."""
        return self.devices == 1

    def batch_size(self, wanted: int) -> int:
        """Return the next size from `wanted` up of which every device takes as many rows."""
        return -(-wanted // self.devices) * self.devices

    def positions(self, size: int, batch_size: int) -> np.ndarray:
        """Return int64 positions in a batch of `size` samples of the rows that are fed from here.

        Args:
            size: samples of the batch; less than `batch_size` in the last one of a pass.
            batch_size: samples of the other batches.
        """
        rows = self._filled(size, batch_size) // self.processes
        return np.minimum(np.arange(self.index * rows, (self.index + 1) * rows), size - 1)

    def filled_sizes(self, count: int, batch_size: int) -> dict[int, int]:
        """Return by the rows of a batch that was filled up how many of them are samples.

        Args:
            count: samples of a pass.
            batch_size: samples of a batch; the last may have less.
        """
        sizes = {min(batch_size, count), count % batch_size} - {0}
        filled = {self._filled(size, batch_size): size for size in sizes}
        return {rows: size for rows, size in filled.items() if rows != size}

    def _filled(self, size: int, batch_size: int) -> int:
        rows = self.batch_size(size)
        # The rows alone must tell a batch that was filled up from a whole one.
        return rows + self.devices if size != rows == batch_size else rows
