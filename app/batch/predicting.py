"""Predicts one part in any process: reads its files, runs the Predictor, writes the outputs."""

import uuid
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.system.atomic_files import sync
from serving import Predictor
from serving.cores import available_cores
from serving.errors import InputError, ServingError
from serving.outputs import choose_output

from .features_file import DTYPE, FLOATS
from .lines import PredictionLines, error_lines, key_lines
from .parts import Finished, Part
from .reading import read_rows
from .rows import Rows, file_id, set_aside


@dataclass(frozen=True)
class Work:
    """What a process needs to predict parts.

    Attributes:
        bundle: folder of the bundle's version.
        unfinished: folder to write into; the job publishes from there.
        key: column of the files to copy into each line; None copies none.
        features: whether to write features instead of predictions.
        image_column: column of the images of tables; None finds it.
    """

    bundle: str
    unfinished: str
    key: str | None
    features: bool = False
    image_column: str | None = None


class PartPredictor:
    """Predicts parts; it loads the model once."""

    def __init__(self, work: Work, threads: int | None) -> None:
        """Load the bundle.

        Args:
            work: bundle, folder and key.
            threads: see `Predictor.load`.

        Raises:
            ManifestError: the bundle is missing, damaged or of another format version.
        """
        self._work = work
        self._threads = available_cores() if threads is None else threads
        self._predictor = Predictor.load(work.bundle, threads)
        manifest = self._predictor.manifest
        self._output = choose_output(manifest, work.features)
        self._render = key_lines if work.features else PredictionLines(manifest).render

    def __call__(self, part: Part) -> Finished:
        """Predict a part, see `steps`."""
        steps = self.steps(part)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                finished: Finished = end.value
                return finished

    def steps(self, part: Part) -> Generator[int, None, Finished]:
        """Write the outputs for a part into a new folder, from which the job publishes them.

        Yields the number of rows that were read since the last time; returns the finished part.

        Predictions become lines of JSON. Features are float32 in a file of their own, beside lines
        with the keys of the rows.

        Raises:
            OSError: the outputs cannot be written.
        """
        attempt = f"{part.name}-{uuid.uuid4().hex}"
        folder = Path(self._work.unfinished) / attempt
        folder.mkdir()
        lines_file = folder / f"part-{part.name}.jsonl"
        errors_file = folder / f"errors-{part.name}.jsonl"
        floats_file = folder / f"part-{part.name}{FLOATS}"
        succeeded = failed = 0
        with (
            lines_file.open("w", encoding="ascii") as lines,
            errors_file.open("w", encoding="ascii") as errors,
            floats_file.open("wb") if self._work.features else nullcontext() as floats,
        ):
            for rows in self._predicted(part):
                succeeded, failed = succeeded + len(rows.ids), failed + len(rows.failed)
                if rows.ids:
                    (outputs,) = rows.inputs.values()
                    lines.write(self._render(rows.ids, outputs))
                    if floats is not None:
                        floats.write(outputs.astype(DTYPE).tobytes())
                errors.write(error_lines(rows.failed))
                yield len(rows.ids) + len(rows.failed)
        for path in folder.iterdir():  # on disk before the ledger records the part
            sync(path)
        return Finished(part.name, part.files, succeeded, failed, attempt)

    def _predicted(self, part: Part) -> Iterator[Rows]:
        """Yield rows with the model's outputs in place of its inputs."""
        manifest = self._predictor.manifest
        try:
            work = self._work
            for rows in read_rows(part.files, manifest, work.key, self._threads, work.image_column):
                yield self._predict(rows) if rows.ids else rows
        except InputError as error:
            yield Rows([], {}, [(file_id(part.files[0]), str(error))])

    def _predict(self, rows: Rows) -> Rows:
        name = self._output
        try:
            outputs = self._predictor.predict(rows.inputs).outputs[name]
        except ServingError as error:
            return set_aside(rows, dict.fromkeys(range(len(rows.ids)), str(error)))
        reason = f"{name} must be finite. Received: NaN or infinity."
        wrong = np.flatnonzero(~np.isfinite(outputs).all(axis=1)).tolist()
        return set_aside(Rows(rows.ids, {name: outputs}, rows.failed), dict.fromkeys(wrong, reason))
