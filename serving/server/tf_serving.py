"""Requests and responses of TF Serving's REST interface.

Source: TensorFlow Serving, "RESTful API", Predict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from ..columns import read_row_inputs
from ..decisions import derived_outputs
from ..errors import reason_of
from ..frames import check_same_names
from ..manifest import Manifest, TensorSpec, describe_spec
from ..row_format import are_columns, check_names, row_format
from .errors import RequestError
from .http import Response
from .json_tokens import decode_json, decode_leniently
from .long_lists import LongList, cut_lists
from .tensors import (
    check_batch_sizes,
    check_finite,
    check_rows,
    encoded_parts,
    from_nested,
    json_parts,
)

SIGNATURE = "serving_default"
DTYPES = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "uint8": "DT_UINT8",
    "int8": "DT_INT8",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "bool": "DT_BOOL",
    "string": "DT_STRING",
}


Rows = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "array"})]


class PredictRequest(msgspec.Struct, gc=False):
    """Has either `instances`, row by row, or `inputs`, column by column.

    For a model of rows, `instances` may be objects with a cell for each column of the table, and
    `inputs` an object with the cells of each.
    """

    instances: Rows | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    signature_name: str | None = None


class PredictResponse(msgspec.Struct, gc=False, omit_defaults=True):
    """Has `predictions` for a request with `instances`, or `outputs` for one with `inputs`."""

    predictions: list[Any] | msgspec.UnsetType = msgspec.UNSET
    outputs: Any | msgspec.UnsetType = msgspec.UNSET


_NULL = msgspec.Raw(b"null")
# Brackets around the lists of `instances` and `inputs`, and of the columns of `inputs`.
_DEPTHS = (1, 2)
_DECODER = msgspec.json.Decoder(PredictRequest)
_CELLS = msgspec.json.Decoder(list[str | int | float | bool | None])
_ROWS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_COLUMNS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Call:
    """A predict request that was read and checked.

    Attributes:
        arrays: an array for each input by name, all with the same number of samples.
        has_cells: whether its rows are those of a table; the response then has the decisions too.
        is_by_row: whether the request and its response are row by row.
    """

    arrays: dict[str, np.ndarray]
    has_cells: bool = False
    is_by_row: bool = False


# The JSON of each input by name, or by None if the request does not name its inputs.
_Columns = Mapping[str | None, bytes | LongList]


def is_table(request: object) -> bool:
    """Return whether a request was read from the cells of a table."""
    return type(request) is Call and request.has_cells


def read_call(manifest: Manifest, body: bytes, max_rows: int | None = None) -> Call:
    """Read a predict request.

    Args:
        manifest: manifest of the model.
        body: JSON.
        max_rows: largest number of samples. Given for a long body, which is read part by part;
            None for a short one.

    Raises:
        RequestError: the body has neither or both of instances and inputs, or they do not fit the
            model.
    """
    lists: dict[bytes, LongList] = {}
    if max_rows is not None:
        body, lists = cut_lists(body, _DEPTHS, max_rows)
    request = decode_json(_DECODER, body, "a predict request")
    if request.signature_name not in (None, "", SIGNATURE):
        raise RequestError(
            f"signature_name must be {SIGNATURE}. Received: {request.signature_name:.40}."
        )
    instances, inputs = map(_given, (request.instances, request.inputs))
    if bool(instances) == bool(inputs):
        received = "both" if instances else "neither"
        raise RequestError(
            f"A predict request must have instances or inputs. Received: {received}."
        )
    if inputs:
        return Call(*_read_columns(manifest, _split_columns(inputs, lists), max_rows))
    _require_rows(manifest)
    rows = lists.get(bytes(instances), instances)
    if not isinstance(rows, LongList):
        found = _read_columns(manifest, _split_rows(rows), max_rows)
    elif rows.starts_with_object():
        found = _read_objects(manifest, rows, max_rows)
    else:
        found = _read_columns(manifest, {None: rows}, max_rows)
    return Call(*found, is_by_row=True)


def _read_objects(
    manifest: Manifest, rows: LongList, max_rows: int | None
) -> tuple[dict[str, np.ndarray], bool]:
    """Return what `_read_columns` returns for rows that are objects."""
    parts: list[dict[str, np.ndarray]] = []
    names: set[str | None] = set()
    count, has_cells = 0, False
    for part in rows.parts():
        columns = _split_rows(part)
        if parts and columns.keys() != names:
            raise RequestError(
                "All rows must have the same columns. "
                f"Received: others than those of row 0 in a row after row {count - 1}."
            )
        names = set(columns)
        arrays, has_cells = _read_columns(manifest, columns, max_rows, count)
        parts.append(arrays)
        count += len(next(iter(arrays.values())))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return joined, has_cells


def _read_columns(
    manifest: Manifest, columns: _Columns, max_rows: int | None, first_row: int = 0
) -> tuple[dict[str, np.ndarray], bool]:
    """Return the inputs of the model by name, and whether they were given as cells of a table."""
    names = [spec.name for spec in manifest.inputs]
    if None in columns and len(names) == 1:
        columns = {names[0]: columns[None]}
    if None not in columns and are_columns(manifest, map(str, columns)):
        return _read_table(manifest, columns, max_rows, first_row), True
    if sorted(map(str, columns)) != sorted(names):
        received = "no names" if None in columns else ", ".join(map(str, columns))
        fix = ""
        if manifest.columns or manifest.string_columns:
            cells = ", ".join(column.name for column in row_format(manifest).columns)
            fix = f" Or pass rows as objects with the columns {cells}."
        raise RequestError(f"Inputs must be {', '.join(names)}. Received: {received:.80}.{fix}")
    arrays = {
        spec.name: from_nested(spec.name, spec, columns[spec.name], max_rows or 0)
        for spec in manifest.inputs
    }
    check_batch_sizes(arrays)
    return arrays, False


def _require_rows(manifest: Manifest) -> None:
    """Raise `RequestError` if an output has no row for each instance."""
    batch = manifest.inputs[0].shape[0]
    without = [spec for spec in manifest.outputs if spec.shape[:1] != (batch,)]
    if without:
        raise RequestError(
            "instances need outputs with a row for each. "
            f"Received: {describe_spec(without[0])}. Send inputs instead."
        )


def _read_table(
    manifest: Manifest, columns: _Columns, max_rows: int | None, first_row: int
) -> dict[str, np.ndarray]:
    """Return the inputs of a model of rows, given the JSON of the cells of each column."""
    check_names(manifest, map(str, columns), "Rows")
    cells = {
        column.name: _read_cells(column.name, columns[column.name])
        for column in row_format(manifest).columns
    }
    counts = sorted({len(values) for values in cells.values()})
    if len(counts) > 1 or not counts[0]:
        raise RequestError(
            f"All columns must have the same number of rows, at least one. Received: {counts}."
        )
    if max_rows is not None:
        check_rows(counts[0], max_rows)
    found = read_row_inputs(manifest, cells, lambda row: f" in row {first_row + row}")
    if found.problems:
        raise RequestError(found.problems[min(found.problems)])
    return found.inputs


def _read_cells(name: str, data: bytes | LongList) -> list[Any]:
    parts = data.parts() if isinstance(data, LongList) else [data]
    return [cell for part in parts for cell in decode_json(_CELLS, part, f"the cells of {name}")]


def _given(data: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw:
    """Return the data; empty if it is left out, for which some clients write null."""
    return msgspec.Raw() if data is msgspec.UNSET or data == _NULL else data


def _split_rows(instances: bytes) -> _Columns:
    """Return the data of each input by name; by None if the rows do not name their inputs."""
    try:
        rows = decode_leniently(_ROWS, instances)  # a part of a long body has not been decoded yet
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None
    except msgspec.DecodeError:
        return {None: instances}
    check_same_names(rows)
    if rows[0].keys() == {"b64"}:  # a single input of bytes
        return {None: instances}
    return {name: b"[%b]" % b",".join(row[name] for row in rows) for name in rows[0]}


def _split_columns(inputs: bytes, lists: Mapping[bytes, LongList]) -> _Columns:
    if bytes(inputs) in lists:
        return {None: lists[bytes(inputs)]}
    try:
        columns = _COLUMNS.decode(inputs)
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None
    except msgspec.DecodeError:
        return {None: inputs}
    return {name: lists.get(bytes(raw), bytes(raw)) for name, raw in columns.items()}


def _not_utf8(error: UnicodeDecodeError) -> RequestError:
    return RequestError(f"The body must be a predict request in UTF-8: {reason_of(error)}.")


def write_predictions(
    manifest: Manifest, call: Call, arrays: Sequence[np.ndarray], is_long: bool = False
) -> Response:
    """Return the response; a single output is written without its name.

    The response to rows of a table also has what `serving.decisions.derived_outputs` returns.

    Args:
        manifest: manifest of the model.
        call: the request.
        arrays: every output of the model, in the manifest's order.
        is_long: whether it is written part by part.

    Raises:
        RequestError: JSON cannot hold an output, since it has NaN or infinity.
    """
    outputs = {spec.name: array for spec, array in zip(manifest.outputs, arrays, strict=True)}
    if call.has_cells and manifest.prediction_output is not None:
        predictions = outputs[manifest.prediction_output]
        derived = derived_outputs(manifest)
        outputs |= {name: one.compute(predictions) for name, one in derived.items()}
    if is_long:
        check_finite(outputs)
        return _in_parts(outputs, call.is_by_row)
    response = _encode(_predictions(outputs) if call.is_by_row else _outputs(outputs))
    if b"null" in response.body:
        check_finite(outputs)
    return response


def _predictions(outputs: Mapping[str, np.ndarray]) -> PredictResponse:
    return PredictResponse(predictions=_rows(outputs, slice(None)))


def _outputs(outputs: Mapping[str, np.ndarray]) -> PredictResponse:
    (first, *others) = named = {name: array.tolist() for name, array in outputs.items()}
    return PredictResponse(outputs=named if others else named[first])


def _rows(outputs: Mapping[str, np.ndarray], part: slice) -> list[Any]:
    named = {name: array[part].tolist() for name, array in outputs.items()}
    if len(named) == 1:
        return next(iter(named.values()))
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def _in_parts(outputs: Mapping[str, np.ndarray], is_by_row: bool) -> Response:
    if is_by_row:
        count = len(next(iter(outputs.values())))
        size = sum(array.size for array in outputs.values()) // count
        rows = encoded_parts(count, size, lambda part: _rows(outputs, part))
        return Response(b'{"predictions":[', more=[*rows, b"]}"])
    lists: list[bytes] = []
    for name, array in outputs.items():
        label = _ENCODER.encode(name) + b":" if len(outputs) > 1 else b""
        lists += b"," + label + b"[", *json_parts(array), b"]"
    lists[0] = lists[0][1:]
    ends = (b"{", b"}}") if len(outputs) > 1 else (b"", b"}")
    return Response(b'{"outputs":' + ends[0], more=[*lists, ends[1]])


def _encode(response: PredictResponse) -> Response:
    return Response(_ENCODER.encode(response))


def describe_signature(manifest: Manifest) -> dict[str, Any]:
    """Return the metadata of one version."""
    signature = {
        "inputs": {spec.name: _describe(spec) for spec in manifest.inputs},
        "outputs": {spec.name: _describe(spec) for spec in manifest.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    name = {"name": manifest.name, "signature_name": "", "version": str(manifest.version)}
    return {
        "model_spec": name,
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    sizes = [size if isinstance(size, int) else -1 for size in spec.shape]
    shape = {
        "dim": [{"size": str(size), "name": ""} for size in sizes],
        "unknown_rank": False,
    }
    dtype = DTYPES[spec.dtype]
    return {"dtype": dtype, "tensor_shape": shape, "name": f"{SIGNATURE}_{spec.name}:0"}
