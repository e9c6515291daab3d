"""Predicts one part: reads its files, runs the Predictor, writes lines. Runs in any process."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from serving import Predictor
from serving.errors import InputError, ServingError
from serving.images import IMAGE_SUFFIXES
from serving.manifest import Manifest

from .arrays import read_array, read_images
from .files import ARRAY, kind_of
from .lines import AnswerLines, error_lines
from .parts import Finished, Part
from .rows import Rows, file_id, set_aside


@dataclass(frozen=True)
class Work:
    """What a process must know to predict parts.

    Attributes:
        bundle: folder of the version.
        unfinished: folder to write into; the job publishes from there.
        key: column of parquet files that names a row besides; or None.
    """

    bundle: str
    unfinished: str
    key: str | None


class PartPredictor:
    """Predicts parts with a model that is loaded once."""

    def __init__(self, work: Work, threads: int | None) -> None:
        """Load the bundle.

        Args:
            work: what is to be done.
            threads: as of `Predictor.load`.

        Raises:
            ManifestError: as of `Predictor.load`.
        """
        self._work = work
        self._predictor = Predictor.load(work.bundle, threads)
        self._lines = AnswerLines(self._predictor.manifest)

    def __call__(self, part: Part) -> Finished:
        """Predict a part into a folder of this attempt's own, which nobody has published yet.

        Raises:
            OSError: the lines cannot be written.
        """
        attempt = f"{part.name}-{uuid.uuid4().hex}"
        folder = Path(self._work.unfinished) / attempt
        folder.mkdir()
        good = bad = 0
        with (folder / f"part-{part.name}.jsonl").open("w", encoding="ascii") as answers:
            with (folder / f"errors-{part.name}.jsonl").open("w", encoding="ascii") as errors:
                for rows in self._answered(part):
                    good, bad = good + len(rows.ids), bad + len(rows.bad)
                    if rows.ids:
                        (array,) = rows.inputs.values()
                        answers.write(self._lines.render(rows.ids, array))
                    errors.write(error_lines(rows.bad))
                _force(errors)
            _force(answers)
        return Finished(part.name, part.files, good, bad, attempt)

    def _answered(self, part: Part) -> Iterator[Rows]:
        """Yield rows with the model's answer in place of its inputs."""
        manifest = self._predictor.manifest
        try:
            for rows in _read(part, manifest, self._work.key):
                yield self._answer(rows) if rows.ids else rows
        except InputError as error:
            yield Rows([], {}, [(file_id(part.files[0]), str(error))])

    def _answer(self, rows: Rows) -> Rows:
        name = str(self._predictor.manifest.prediction_output)
        try:
            answers = self._predictor.predict(rows.inputs).outputs[name]
        except ServingError as error:
            return set_aside(rows, dict.fromkeys(range(len(rows.ids)), str(error)))
        reason = f"{name} must be finite. Received: an answer that is not."
        wrong = np.flatnonzero(~np.isfinite(answers).all(axis=1)).tolist()
        return set_aside(Rows(rows.ids, {name: answers}, rows.bad), dict.fromkeys(wrong, reason))


def _read(part: Part, manifest: Manifest, key: str | None) -> Iterator[Rows]:
    kind = kind_of(part.files[0])
    if kind in IMAGE_SUFFIXES:
        return read_images(part.files, manifest)
    if kind == ARRAY:
        return read_array(part.files[0], manifest)
    from .tables import read_table  # pyarrow is an extra

    return read_table(part.files[0], manifest, key)


def _force(file: IO[str]) -> None:
    """Have the lines on disk before the ledger says that they are."""
    file.flush()
    os.fsync(file.fileno())
