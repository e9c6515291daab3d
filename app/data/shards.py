"""The rows of a batch that a process reads when several devices share the batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shard:
    """The part of each batch that one of several processes reads. All follow the same order.

    Every device takes the same number of rows. A batch of another size is padded with copies of
    its last row; from `filled_sizes`, the step knows how many rows are samples.

    Attributes:
        index: number of this process, from 0.
        processes: number of processes.
        devices: number of devices of all processes together; each process has the same number.
    """

    index: int = 0
    processes: int = 1
    devices: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether a single device takes the whole batch."""
        return self.devices == 1

    def batch_size(self, wanted: int) -> int:
        """Return the smallest batch size, at least `wanted`, that all devices can share evenly."""
        return -(-wanted // self.devices) * self.devices

    def positions(self, size: int, batch_size: int) -> np.ndarray:
        """Return the int64 positions of this process' rows in a batch of `size` samples.

        Args:
            size: samples in the batch; the last batch of a pass has fewer than `batch_size`.
            batch_size: samples in the other batches.
        """
        rows = self._filled(size, batch_size) // self.processes
        return np.minimum(np.arange(self.index * rows, (self.index + 1) * rows), size - 1)

    def filled_sizes(self, count: int, batch_size: int) -> dict[int, int]:
        """Return the number of samples in padded batches, by their number of rows.

        Args:
            count: samples in a pass.
            batch_size: samples in a batch; the last may have fewer.
        """
        sizes = {min(batch_size, count), count % batch_size} - {0}
        filled = {self._filled(size, batch_size): size for size in sizes}
        return {rows: size for rows, size in filled.items() if rows != size}

    def _filled(self, size: int, batch_size: int) -> int:
        rows = self.batch_size(size)
        # The number of rows must tell a padded batch from a full one.
        return rows + self.devices if size != rows == batch_size else rows
