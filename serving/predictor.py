"""The prediction module: a bundle in, answers out, with microseconds over ONNX Runtime."""

import math
from pathlib import Path

import numpy as np
import onnxruntime

from .bundle import MODEL, find_version, read_checked, read_checksums, read_manifest
from .contract import check_contract
from .errors import InputError, ManifestError, ServingError
from .manifest import Manifest
from .session import open_session

Array = np.ndarray


class Prediction:
    """The answers for one batch. Not to be changed.

    A plain class, since a frozen dataclass costs a microsecond to make.

    Attributes:
        output_names: name of each output of the model.
        arrays: the outputs, in the same order, first axis `batch`.
        label_names: name of each class, in the order of `probabilities`.
    """

    __slots__ = ("arrays", "label_names", "output_names")

    def __init__(
        self, output_names: list[str], arrays: list[Array], label_names: tuple[str, ...]
    ) -> None:
        self.output_names = output_names
        self.arrays = arrays
        self.label_names = label_names

    @property
    def outputs(self) -> dict[str, Array]:
        """Each output by its name."""
        return dict(zip(self.output_names, self.arrays, strict=True))

    @property
    def probabilities(self) -> Array:
        """Probability of each class, float32 `(batch, classes)`."""
        return self.outputs["probabilities"]

    @property
    def features(self) -> Array | None:
        """The learned representation, float32 `(batch, dimension)`; None if there is none."""
        return self.outputs.get("features")

    @property
    def labels(self) -> list[str]:
        """Name of the most probable class of each sample."""
        return [self.label_names[index] for index in self.probabilities.argmax(axis=1)]

    def __repr__(self) -> str:
        """Return labels and shapes, not the numbers."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items())
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
        if len(manifest.inputs) != 1:
            names = ", ".join(spec.name for spec in manifest.inputs)
            raise ManifestError(f"A model must have one input. Received: {names}.")
        self.manifest = manifest
        self.session = session
        spec = manifest.inputs[0]
        self._input_name = spec.name
        self._dtype = np.dtype(spec.dtype)
        self._sample_shape = spec.shape[1:]
        self._is_float = self._dtype.kind == "f"
        self._output_names = [output.name for output in manifest.outputs]
        self._labels = manifest.labels
        self._run = session.run

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> "Predictor":
        """Load a bundle.

        Args:
            path: a version's folder, or a model's, which stands for its latest version.
            threads: threads that one call may use.

        Raises:
            ManifestError: the bundle is missing, broken, changed, or needs a newer onnxruntime.
        """
        folder = find_version(path)
        manifest = read_manifest(folder)
        session = open_session(read_checked(folder, MODEL, read_checksums(folder)), threads)
        check_contract(manifest, session)
        return cls(manifest, session)

    def predict(self, inputs: Array) -> Prediction:
        """Run the model on a batch.

        Args:
            inputs: an array of the dtype and shape that `manifest.inputs` says, such as uint8
                `(batch, 28, 28)`; at least one sample, no NaN and no infinity.

        Raises:
            InputError: the array does not fit.
            ServingError: ONNX Runtime fails for another reason, such as memory.
        """
        # The whole check costs as much as a small net. ONNX Runtime refuses wrong shapes itself,
        # so they are put into words only once it has; a dtype it could misread (another byte
        # order) is no singleton and goes the long way round.
        if type(inputs) is not Array or inputs.dtype is not self._dtype or not inputs.size:
            self._check(inputs)
        try:
            arrays = self._run(self._output_names, {self._input_name: inputs})
        except Exception as error:  # ONNX Runtime's own errors share no public base class
            self._check(inputs)
            reason = " ".join(str(error).split())
            raise ServingError(
                f"ONNX Runtime must run the model. Received: {reason:.200}"
            ) from error
        # The sum of squares is not finite if an element is not: one pass, where numpy.isfinite
        # takes two. After the run, when the numbers are in the cache, it costs half.
        if self._is_float and not math.isfinite(np.vdot(inputs, inputs)):
            self._check_finite(inputs)
        return Prediction(self._output_names, arrays, self._labels)

    def _check(self, inputs: Array) -> None:
        if not isinstance(inputs, np.ndarray) or inputs.dtype != self._dtype:
            received = getattr(inputs, "dtype", type(inputs).__name__)
            raise InputError(
                f"{self._input_name} must be a numpy array of {self._dtype}. "
                f"Received: {received}. Convert it with np.asarray(…, np.{self._dtype})."
            )
        if not inputs.ndim or inputs.shape[1:] != self._sample_shape:
            raise InputError(
                f"{self._input_name} must have shape {self._shape_text()}. "
                f"Received: shape={inputs.shape}.{self._shape_mend(inputs)}"
            )
        if not len(inputs):
            raise InputError(
                f"{self._input_name} must hold at least one sample. Received: shape={inputs.shape}."
            )

    def _check_finite(self, inputs: Array) -> None:
        wrong = np.argwhere(~np.isfinite(inputs))
        if len(wrong):  # else the squares overflowed, and the elements are fine
            index = tuple(wrong[0].tolist())
            raise InputError(
                f"{self._input_name} must be finite. Received: {inputs[index]} at {index}, "
                f"and {len(wrong) - 1} more."
            )

    def _shape_text(self) -> str:
        return "(" + ", ".join(map(str, self.manifest.inputs[0].shape)) + ")"

    def _shape_mend(self, inputs: Array) -> str:
        if inputs.shape == self._sample_shape:
            return " Add the batch axis with array[np.newaxis]."
        return ""
