"""The prediction module: a bundle in, answers out, with microseconds over ONNX Runtime."""

import math
from pathlib import Path

import numpy as np
import onnxruntime

from .agreement import Inputs
from .bundle import INT8, MODEL, find_version, read_checked, read_checksums, read_manifest
from .checking import check_finite, check_inputs, dtype_of
from .contract import check_contract
from .errors import ManifestError, ServingError
from .manifest import Manifest
from .session import open_session

Array = np.ndarray


class Prediction:
    """The answers for one batch. Not to be changed.

    A plain class, since a frozen dataclass costs a microsecond to make.

    Attributes:
        output_names: name of each output of the model.
        arrays: the outputs, in the same order, first axis `batch`.
        manifest: of the model.
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
            ServingError: the model predicts values, or nothing is known of its outputs.
        """
        return self._answer(("classes", "labels"), "probabilities")

    @property
    def values(self) -> Array:
        """The predicted values, float32 `(batch, values)`.

        Raises:
            ServingError: the model predicts classes or labels, or nothing is known of its outputs.
        """
        return self._answer(("values",), "values")

    @property
    def features(self) -> Array | None:
        """The learned representation, float32 `(batch, dimension)`; None if there is none."""
        return self.outputs.get("features")

    @property
    def labels(self) -> list[str] | list[tuple[str, ...]]:
        """Name of the most probable class of each sample; or all labels with one half and more.

        Raises:
            ServingError: the model predicts values, or nothing is known of its outputs.
        """
        names = self.manifest.labels
        if self.manifest.kind_of_targets == "classes":
            return [names[index] for index in self.probabilities.argmax(axis=1)]
        return [
            tuple(name for name, is_set in zip(names, row, strict=True) if is_set)
            for row in self.probabilities >= 0.5
        ]

    @property
    def accepted(self) -> Array:
        """Whether each sample's class is sure enough, bool `(batch,)`; all are without a threshold.

        Raises:
            ServingError: the model predicts no classes.
        """
        reject = self.manifest.reject
        confidences = self._answer(("classes",), "classes").max(axis=1)
        is_sure: Array = confidences >= (0.0 if reject is None else reject.threshold)
        return is_sure

    def _answer(self, kinds: tuple[str, ...], asked: str) -> Array:
        kind = self.manifest.kind_of_targets
        if kind not in kinds or self.manifest.answer is None:
            known = {"values": "values", "none": "outputs"}.get(kind, "probabilities")
            raise ServingError(f"A model of {kind} must be asked for {known}. Received: {asked}.")
        return self.arrays[self.output_names.index(self.manifest.answer)]

    def __repr__(self) -> str:
        """Return labels and shapes, not the numbers."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items())
        if self.manifest.kind_of_targets in ("values", "none"):
            return f"Prediction({shapes})"
        return f"Prediction(labels={self.labels}, {shapes})"


class Predictor:
    """Runs an exported model on the CPU. Safe to share between threads.

    Example:
        >>> predictor = Predictor.load("dist/digits")
        >>> prediction = predictor.predict(np.zeros((2, 28, 28), np.uint8))
        >>> prediction.probabilities.shape
        (2, 10)
    """

    def __init__(self, manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
        """Use `load`; this takes a session that was checked to fit the manifest."""
        self.manifest = manifest
        self.session = session
        # One input of numbers has a way of its own, since it is the one that must be fast.
        spec = manifest.inputs[0]
        self._is_simple = len(manifest.inputs) == 1 and spec.dtype != "string"
        self._input_name = spec.name
        self._dtype = dtype_of(spec) if self._is_simple else None
        self._must_be_finite = spec.dtype.startswith("float") and not manifest.gaps
        self._gaps = [manifest.columns.index(name) for name in manifest.gaps]
        self._output_names = [output.name for output in manifest.outputs]
        self._run = session.run

    @classmethod
    def load(cls, path: str | Path, threads: int = 1, int8: bool = False) -> "Predictor":
        """Load a bundle.

        Args:
            path: a version's folder, or a model's, which stands for its latest version.
            threads: threads that one call may use.
            int8: whether to run the quantised model, if the bundle kept one.

        Raises:
            ManifestError: the bundle is missing, broken, changed, or needs a newer onnxruntime.
        """
        folder = find_version(path)
        manifest = read_manifest(folder)
        if int8 and (manifest.int8 is None or not manifest.int8.kept):
            raise ManifestError(
                f"int8 needs a bundle that kept {INT8}. Received: {folder}. Export it with "
                "--int8 always."
            )
        name = INT8 if int8 else MODEL
        session = open_session(read_checked(folder, name, read_checksums(folder)), threads)
        check_contract(manifest, session)
        return cls(manifest, session)

    def predict(self, inputs: Inputs) -> Prediction:
        """Run the model on a batch.

        Args:
            inputs: an array of the dtype and shape that `manifest.inputs` says, such as uint8
                `(batch, 28, 28)`; for several inputs, an array for each name. At least one
                sample, no infinity, NaN only in columns that `manifest.gaps` names.

        Raises:
            InputError: the array does not fit.
            ServingError: ONNX Runtime fails for another reason, such as memory.
        """
        # The whole check costs as much as a small net. ONNX Runtime refuses wrong shapes itself,
        # so they are put into words only once it has; a dtype it could misread (another byte
        # order) is no singleton and goes the long way round.
        if type(inputs) is not Array or inputs.dtype is not self._dtype or not inputs.size:
            return self._predict_checked(inputs)
        try:
            arrays = self._run(self._output_names, {self._input_name: inputs})
        except Exception as error:
            check_inputs(self._by_name(inputs), self.manifest.inputs)
            raise _failure(error) from error
        # The sum of squares is not finite if an element is not: one pass, where numpy.isfinite
        # takes two. After the run, when the numbers are in the cache, it costs half.
        if self._must_be_finite and not math.isfinite(np.vdot(inputs, inputs)):
            check_finite(self._input_name, inputs, ())
        elif self._gaps:
            check_finite(self._input_name, inputs, self._gaps)
        return Prediction(self._output_names, arrays, self.manifest)

    def _predict_checked(self, inputs: Inputs) -> Prediction:
        named = self._by_name(inputs)
        check_inputs(named, self.manifest.inputs)
        for name, array in named.items():
            if array.dtype.kind == "f":
                check_finite(name, array, self._gaps)
        try:
            arrays = self._run(self._output_names, named)
        except Exception as error:
            raise _failure(error) from error
        return Prediction(self._output_names, arrays, self.manifest)

    def _by_name(self, inputs: Inputs) -> dict[str, Array]:
        return inputs if isinstance(inputs, dict) else {self._input_name: inputs}


def _failure(error: Exception) -> ServingError:
    # ONNX Runtime's own errors share no public base class.
    reason = " ".join(str(error).split())
    return ServingError(f"ONNX Runtime must run the model. Received: {reason:.200}")
