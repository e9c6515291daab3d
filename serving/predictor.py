"""The prediction module: runs a bundle with microseconds of overhead over ONNX Runtime."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from .bundle import INT8, MODEL, check_model, read_checksums, read_manifest
from .checking import (
    check_finite,
    check_inputs,
    check_options,
    dtype_of,
    quick_check,
    refuse_masked,
)
from .contract import check_contract
from .cores import available_cores
from .decisions import decide, interval_ends, thresholds_of
from .errors import InputError, ManifestError, ServingError, one_line
from .frames import is_table, table_columns
from .golden import read_golden
from .int8 import check_sums, has_answers, why_not_here
from .manifest import Manifest
from .parity import Inputs, count_samples, take_samples
from .row_format import are_columns, check_names, row_format
from .runtime import onnxruntime
from .session import open_session
from .spreading import spread
from .versions import find_version

if TYPE_CHECKING:
    from .image_sources import ImageSource

Array = np.ndarray
Int8Policy = Literal["auto", "always", "never"]
# Numbers in one part of a large input: 256 images of 28x28, and some of their activations, fit the
# processor's cache.
_CACHED_NUMBERS = 2**18
_MIN_ROWS, _MAX_ROWS = 8, 256
# Image files in one part, which may have megabytes each and take far longer to read than to run.
_IMAGES_AT_ONCE = 32
# The policy that loads a model of each precision again, or says why it cannot run here.
_INT8_OF: dict[str, Int8Policy] = {"float32": "never", "int8": "always"}
# A model of at least this size gains from several threads even for a single sample.
_LARGE_BYTES = 8_000_000


class Prediction:
    """The outputs for one batch. Treat it as read-only.

    It is a plain class because a frozen dataclass takes a microsecond to create.

    Attributes:
        output_names: name of each output of the model.
        arrays: the outputs in the same order, first axis `batch`.
        manifest: manifest of the model.
    """

    __slots__ = ("arrays", "manifest", "output_names")

    def __init__(self, output_names: list[str], arrays: list[Array], manifest: Manifest) -> None:
        self.output_names = output_names
        self.arrays = arrays
        self.manifest = manifest

    @property
    def outputs(self) -> dict[str, Array]:
        """Each output by its name."""
        return dict(zip(self.output_names, self.arrays, strict=True))

    @property
    def probabilities(self) -> Array:
        """Probability of each class or label, float32 `(batch, labels)`.

        Raises:
            ServingError: the task is regression or unknown.
        """
        return self._require(("multiclass", "multilabel"), "probabilities")

    @property
    def values(self) -> Array:
        """The predicted values, float32 `(batch, values)`.

        Raises:
            ServingError: the task is not regression.
        """
        return self._require(("regression",), "values")

    @property
    def features(self) -> Array | None:
        """The learned representation, float32 `(batch, dimension)`; None if the model has none."""
        return self.outputs.get("features")

    @property
    def labels(self) -> list[str] | list[tuple[str, ...]]:
        """The class of each sample; for multilabel, all its labels.

        The most probable class, or all labels of at least 0.5, unless the bundle has `thresholds`.

        Raises:
            ServingError: the task is regression or unknown.
        """
        names, task = self.manifest.labels, self.manifest.task
        decided = decide(task, self.probabilities, thresholds_of(self.manifest))
        if task == "multiclass":
            return [names[index] for index in decided]
        return [
            tuple(name for name, is_set in zip(names, row, strict=True) if is_set)
            for row in decided
        ]

    @property
    def lower(self) -> Array | None:
        """Lower end of each value's interval, float32 `(batch, values)`.

        None if the bundle has no `intervals`, which state how often they contain the true value.

        Raises:
            ServingError: the task is not regression.
        """
        values, intervals = self.values, self.manifest.intervals
        return None if intervals is None else interval_ends(intervals, values)[0]

    @property
    def upper(self) -> Array | None:
        """Upper end of each value's interval, see `lower`.

        Raises:
            ServingError: the task is not regression.
        """
        values, intervals = self.values, self.manifest.intervals
        return None if intervals is None else interval_ends(intervals, values)[1]

    @property
    def accepted(self) -> Array:
        """Whether each class reaches the threshold of the reject option, bool `(batch,)`.

        All are accepted if the model has no reject option.

        Raises:
            ServingError: the task is not multiclass.
        """
        reject_option = self.manifest.reject_option
        confidences = self._require(("multiclass",), "classes").max(axis=1)
        is_accepted: Array = confidences >= (
            0.0 if reject_option is None else reject_option.threshold
        )
        return is_accepted

    def _require(self, tasks: tuple[str, ...], wanted: str) -> Array:
        task = self.manifest.task
        if task not in tasks or self.manifest.prediction_output is None:
            fix = {"regression": "values", "unknown": "outputs"}.get(task, "probabilities")
            raise ServingError(
                f"Only a {' or '.join(tasks)} model has {wanted}. Received: task={task!r}. "
                f"Read {fix} instead."
            )
        return self.arrays[self.output_names.index(self.manifest.prediction_output)]

    def __repr__(self) -> str:
        """Return labels and shapes, without the numbers."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items())
        if self.manifest.task in ("regression", "unknown"):
            return f"Prediction({shapes})"
        return f"Prediction(labels={self.labels}, {shapes})"


class Predictor:
    """Runs an exported model on the CPU. It can be shared between threads.

    A `with` statement closes it at the end. A copy, be it by `pickle` in another process, loads
    the same version from the same place, with as many threads and in the same precision.

    Attributes:
        manifest: manifest of the model.
        session: the ONNX Runtime session; None after `close`.
        precision: `float32`, or `int8` if the quantized model runs.

    Examples:
        >>> predictor = Predictor.load("dist/digits")
        >>> prediction = predictor.predict(np.zeros((2, 28, 28), np.uint8))
        >>> prediction.probabilities.shape
        (2, 10)
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        session: onnxruntime.InferenceSession,
        threads: int,
        precision: str = "float32",
    ) -> None:
        """Wrap a session that was checked against the manifest. Use `load` to make one.

        Args:
            folder: folder of the version.
            manifest: manifest of the version.
            session: runs one batch.
            threads: number of threads that share a large input.
            precision: `float32` or `int8`, that of the session's model.
        """
        self.manifest = manifest
        self.precision = precision
        self.session = session
        self._folder = folder
        self._threads = threads
        # The arguments of `load` that make a copy. All copies answer alike.
        self._loaded_from: tuple[Path, int | None, Int8Policy]
        self._loaded_from = folder.absolute(), threads, _INT8_OF[precision]
        # A single input of numbers takes a fast path in `predict`.
        spec = manifest.inputs[0]
        self._is_simple = len(manifest.inputs) == 1 and spec.dtype != "string"
        self._input_name = spec.name
        self._dtype = dtype_of(spec) if self._is_simple else None
        self._must_be_finite = spec.dtype.startswith("float") and not manifest.nullable_columns
        self._nullable_columns = [
            manifest.columns.index(name) for name in manifest.nullable_columns
        ]
        self._output_names = [output.name for output in manifest.outputs]
        numbers = math.prod(size for size in spec.shape[1:] if isinstance(size, int))
        # A batch that must stay whole is never too large for one call.
        self._max_numbers = math.inf if manifest.whole_batches else numbers * _rows_at_once(numbers)
        # So do several inputs, and texts, of a few rows.
        self._fits = quick_check(manifest.inputs)
        self._run = session.run

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None, int8: Int8Policy = "auto") -> Self:
        """Load a bundle.

        Args:
            path: folder of a version, or of a model, which selects its latest version; or a packed
                file.
            threads: number of processors that one call may use; None uses all that the affinity
                and the cgroup quota of the process allow. A small model uses more than one only
                for large inputs. Calls from several Python threads always run in parallel.
            int8: `auto` runs the quantized model if the bundle has one, it answers the golden
                samples here as it did where it was made, and it is faster here; a line of the log
                says why not. `always` requires it; `never` runs the float32 model.

        Raises:
            InputError: an argument is invalid.
            ManifestError: the bundle is missing, broken or changed, needs a newer onnxruntime, or
                has no quantized model for `always`, or one that answers otherwise here.
        """
        check_options(threads, int8, get_args(Int8Policy))
        folder = find_version(path)
        loaded = cls._choose(folder, threads, int8)
        # The folder of an unpacked file is gone when this process ends.
        place = Path(path) if Path(path).is_file() else folder
        loaded._loaded_from = place.absolute(), threads, _INT8_OF[loaded.precision]
        return loaded

    @classmethod
    def _choose(cls, folder: Path, threads: int | None, int8: Int8Policy) -> Self:
        """Load `model.onnx` or `model.int8.onnx`, see `load`."""
        manifest = read_manifest(folder)
        is_kept = manifest.int8 is not None and manifest.int8.kept
        if int8 == "always" and not is_kept:
            raise ManifestError(
                f"int8='always' needs a bundle with {INT8}. Received: {folder}, without it. "
                "Export it with --int8 always."
            )
        threads = available_cores() if threads is None else threads
        names = [MODEL] if int8 != "always" else []
        if int8 == "always" or (int8 == "auto" and has_answers(manifest)):
            names.append(INT8)
        found = {name: cls._open(folder, manifest, name, threads) for name in names}
        if INT8 not in found:
            return found[MODEL]
        reason = why_not_here(folder, manifest, {n: p._outputs for n, p in found.items()})
        if not reason:
            return found[INT8]
        if int8 == "always":
            raise ManifestError(f"{INT8} cannot run on this machine. Received: {folder}, {reason}.")
        import logging

        log = logging.getLogger("hornbill.serving")
        log.warning("%s runs in float32: int8 is left out, since %s", folder, reason)
        return found[MODEL]

    @classmethod
    def _open(cls, folder: Path, manifest: Manifest, name: str, threads: int) -> Self:
        """Load `model.onnx` or `model.int8.onnx`."""
        size = check_model(folder, name, read_checksums(folder))
        if name == INT8:
            check_sums(manifest, (folder / name).read_bytes())
        # A small operation is over before a second thread has woken up.
        is_large = size >= _LARGE_BYTES
        session = open_session(folder / name, threads if is_large else 1)
        check_contract(manifest, session)
        precision = "int8" if name == INT8 else "float32"
        return cls(folder, manifest, session, 1 if is_large else threads, precision)

    def _outputs(self, inputs: Inputs) -> dict[str, Array]:
        return self.predict(inputs).outputs

    def predict(self, inputs: Inputs | Sequence[Array]) -> Prediction:
        """Run the model on a batch of any length.

        A large batch is run in parts that fit the processor's cache, on several processors. Memory
        holds the inputs, the outputs and these parts, whatever the length. A model of
        `manifest.whole_batches` runs the batch as it is, of `manifest.batch_size` samples if that
        is a number.

        Args:
            inputs: an array with the dtype and shape of `manifest.inputs`, such as uint8
                `(batch, 28, 28)`; a list of samples, such as uint8 `(28, 28)`; or for several
                inputs a dict of arrays by name. There must be at least one sample and no infinity.
                NaN is allowed only in the columns of `manifest.nullable_columns`. A model of a
                table also takes what `predict_rows` takes, except for an array or a dict with the
                names of its inputs.

        Raises:
            InputError: the inputs do not fit the model.
            ServingError: ONNX Runtime fails for another reason, such as memory, or the predictor
                is closed.
        """
        # A complete check takes as long as a small net. ONNX Runtime itself refuses wrong shapes,
        # so the check runs only after an error. A dtype that ONNX Runtime could misread, such as
        # another byte order, is not numpy's singleton and takes the slow path.
        if (
            type(inputs) is not Array
            or inputs.dtype is not self._dtype
            or not 0 < inputs.size <= self._max_numbers
        ):
            if type(inputs) is dict and self._fits(inputs) and count_samples(inputs) <= _MIN_ROWS:
                arrays = self._run_checked(inputs, 0)
                return Prediction(self._output_names, arrays, self.manifest)
            return self._predict_any(inputs)
        try:
            arrays = self._run(self._output_names, {self._input_name: inputs})
        except Exception as error:
            check_inputs(self._by_name(inputs), self.manifest.inputs)
            raise _failure(error) from error
        # The sum of squares is not finite if an element is not. It takes one pass, numpy.isfinite
        # takes two. After the run the numbers are in the cache, which halves the time.
        if self._must_be_finite and not math.isfinite(np.vdot(inputs, inputs)):
            check_finite(self._input_name, inputs, ())
        elif self._nullable_columns:
            check_finite(self._input_name, inputs, self._nullable_columns)
        return Prediction(self._output_names, arrays, self.manifest)

    def predict_images(self, images: "Iterable[ImageSource]") -> Prediction:
        """Read images and run the model on them. Needs Pillow.

        Args:
            images: a list of paths, bytes of image files, file objects, arrays such as uint8
                `(height, width)` or `(height, width, 3)`, or Pillow images; a generator of these,
                of which a few are taken at a time; or one array with a batch axis.

        Raises:
            InputError: `images` is a single image or is empty, an image cannot be read, or the
                model does not take images.
            ServingError: see `predict`.
        """
        from .image_sources import each_image  # nothing else needs Pillow
        from .inputs import image_shape, read_model_image

        rows = min(_rows_at_once(math.prod(image_shape(self.manifest))), _IMAGES_AT_ONCE)
        # A batch that must stay whole is taken as a whole.
        at_once = None if self.manifest.whole_batches else rows * self._threads
        read = partial(read_model_image, manifest=self.manifest)
        rest, found = each_image(images), []
        while taken := list(islice(rest, at_once)):
            found.append(self._run_images(taken, rows, read))
        if not found:
            raise InputError("There must be at least one image. Received: none.")
        return Prediction(self._output_names, _joined(found), self.manifest)

    def predict_rows(self, rows: Any) -> Prediction:
        """Run the model on rows of a table, whose cells are read as in training.

        Args:
            rows: a DataFrame of pandas or polars, a table of pyarrow, a dict from the names of
                columns to their cells, a list of dicts, one for each row, or the dict of one row;
                columns may be in any order and among others. Or a list of rows without names, with
                a cell for each column that the model needs, in its order. Cells are texts as in a
                CSV file, or numbers, truth values, dates and None.

        Raises:
            InputError: columns are absent, or a cell cannot be read; the message names the row,
                counted from 0.
            ServingError: see `predict`.

        Examples:
            >>> predictor.predict_rows([{"size": 1.5, "color": "red"}]).labels
            ['rose']
        """
        from .columns import read_row_inputs

        cells = table_columns(rows, [column.name for column in row_format(self.manifest).columns])
        check_names(self.manifest, cells, "Rows")
        found = read_row_inputs(self.manifest, cells, lambda row: f" in row {row}")
        if found.problems:
            raise InputError(found.problems[min(found.problems)])
        return self.predict(found.inputs)

    def features(self, inputs: Inputs | Sequence[Array]) -> Array:
        """Return the learned representation, float32 `(batch, dimension)`.

        Args:
            inputs: see `predict`.

        Raises:
            InputError: see `predict`.
            ServingError: the model has no features; see also `predict`.
        """
        if "features" not in self._output_names:
            raise ServingError(
                "The model must have an output called features. "
                f"Received: {self.manifest.name}, with {', '.join(self._output_names)}."
            )
        return self.predict(inputs).outputs["features"]

    def warm_up(self) -> None:
        """Run the bundle's golden samples, so that the first call is as fast as the next.

        Raises:
            ManifestError: the golden samples are missing or changed.
        """
        samples = read_golden(self._folder, "input", self.manifest.inputs)
        counts = {1, count_samples(samples)} if self.manifest.batch_size is None else {None}
        for count in counts:
            self.predict(take_samples(samples, slice(count)))

    def close(self) -> None:
        """Free the memory of the model; later calls raise `ServingError`."""
        self._run = _refuse_closed
        self.session = None

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Path, int | None, str]]:
        """Return how `pickle` and `copy` make it again: a session is no data.

        Raises:
            ServingError: the predictor is closed.
        """
        if self.session is None:
            _refuse_closed()
        return type(self).load, self._loaded_from

    def __enter__(self) -> Self:
        """Return the predictor."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the predictor."""
        self.close()

    def _predict_any(self, inputs: Inputs | Sequence[Array]) -> Prediction:
        if isinstance(inputs, list | tuple) and all(isinstance(one, Array) for one in inputs):
            inputs = _stack(self._input_name, inputs)
        if self._are_rows(inputs):
            return self.predict_rows(inputs)
        named = self._by_name(inputs)
        check_inputs(named, self.manifest.inputs)
        size = sum(math.prod(array.shape[1:]) for array in named.values())

        def run(start: int, end: int) -> list[Array]:
            part = slice(start, end)
            return self._run_checked({name: array[part] for name, array in named.items()}, start)

        arrays = self._in_parts(count_samples(named), _rows_at_once(size), run)
        return Prediction(self._output_names, arrays, self.manifest)

    def _are_rows(self, inputs: Any) -> bool:
        """Return whether inputs are rows of a table instead of arrays."""
        manifest = self.manifest
        if isinstance(inputs, Mapping):
            return are_columns(manifest, map(str, inputs))
        if not (manifest.columns or manifest.string_columns):
            return False
        return isinstance(inputs, list | tuple) or is_table(inputs) or len(manifest.inputs) > 1

    def _run_images(
        self, images: Sequence["ImageSource"], rows: int, read: Callable[["ImageSource"], Array]
    ) -> list[Array]:
        def run(start: int, end: int) -> list[Array]:
            arrays = [read(image) for image in images[start:end]]
            return self._run_checked({self._input_name: np.stack(arrays)}, start)

        return self._in_parts(len(images), rows, run)

    def _in_parts(
        self, count: int, rows: int, run: Callable[[int, int], list[Array]]
    ) -> list[Array]:
        """Call `run(start, end)` on parts of up to `rows` of `count` samples; join the outputs."""
        parts = math.ceil(count / rows)
        if parts == 1 or self.manifest.whole_batches:
            return run(0, count)
        # An equal number for each thread, so that none waits for the last.
        parts = math.ceil(parts / self._threads) * self._threads
        rows = math.ceil(count / parts)
        starts = range(0, count, rows)
        found = spread(
            lambda number: run(starts[number], starts[number] + rows), len(starts), self._threads
        )
        return _joined(found)

    def _run_checked(self, named: dict[str, Array], start: int) -> list[Array]:
        """Run arrays of the right shapes; `start` is the index of their first sample."""
        for name, array in named.items():
            if array.dtype.kind == "f":
                check_finite(name, array, self._nullable_columns if name == "inputs" else (), start)
        try:
            arrays: list[Array] = self._run(self._output_names, named)
        except Exception as error:
            raise _failure(error) from error
        return arrays

    def _by_name(self, inputs: Any) -> dict[str, Array]:
        return inputs if isinstance(inputs, dict) else {self._input_name: inputs}


def _rows_at_once(numbers: int) -> int:
    """Return how many samples of `numbers` elements are run together.

    More would not fit the cache; with fewer, the overhead of a call would matter.
    """
    return min(max(_CACHED_NUMBERS // max(numbers, 1), _MIN_ROWS), _MAX_ROWS)


def _joined(parts: Sequence[list[Array]]) -> list[Array]:
    """Return each output, joined from those of the parts."""
    if len(parts) == 1:
        return parts[0]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _stack(name: str, samples: Sequence[Array]) -> Array:
    for sample in samples:
        refuse_masked(name, sample)
    shapes = sorted({sample.shape for sample in samples})
    if len(shapes) != 1:
        received = f"{shapes[0]} and {shapes[-1]}" if shapes else "none"
        raise InputError(f"{name} must have samples of one shape. Received: {received}.")
    return np.stack(samples)


def _refuse_closed(*_: Any) -> list[Array]:
    raise ServingError("The predictor must be open. Received: a closed one. Load it again.")


def _failure(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    # ONNX Runtime's own errors share no public base class.
    return ServingError(f"ONNX Runtime failed to run the model: {one_line(error):.200}")
