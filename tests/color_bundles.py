"""Writes bundles of models that tell the colors of an image, made by hand without training."""

import json

import numpy as np
import onnx
from checksums import write_checksums
from onnx import TensorProto, helper, numpy_helper

from serving.runtime import onnxruntime

LABELS = ("red", "green", "blue")
_ENDS = {
    "multiclass": ("probabilities", helper.make_node("Softmax", ["scores"], ["probabilities"])),
    "multilabel": ("probabilities", helper.make_node("Sigmoid", ["scores"], ["probabilities"])),
    "regression": ("values", helper.make_node("Identity", ["means"], ["values"])),
}


def write_color_bundle(
    folder, like, task="multiclass", size=(32, 32), name="colors", batch="batch", **changed
):
    """Write version 1 of a model of the mean of red, green and blue.

    Args:
        folder: folder of bundles.
        like: version of a bundle whose manifest says all that does not matter here.
        task: `multiclass` or `multilabel`: a color is more probable the higher its mean is above
            128; `regression`: the means themselves.
        size: height and width of an image.
        name: name of the model.
        batch: number of samples in each call, or the name of that axis if it may be any.
        changed: other keys of the manifest, with their values.
    """
    version = folder / name / "1"
    (version / "test_data_set_0").mkdir(parents=True)
    output, end = _ENDS[task]
    images = np.random.default_rng(0).integers(0, 256, (8, *size, 3), np.uint8)
    images = images[:batch] if isinstance(batch, int) else images
    manifest = json.loads((like / "manifest.json").read_text())
    manifest |= {
        "name": name,
        "family": "keras",
        "task": task,
        "inputs": [{"name": "image", "dtype": "uint8", "shape": [batch, *size, 3]}],
        "outputs": [{"name": output, "dtype": "float32", "shape": [batch, 3]}],
        "whole_batches": isinstance(batch, int),
        "prediction_output": output,
        "labels": LABELS,
        "calibration": None,
        "baseline": None,
    } | changed
    parity = manifest["proof"]["parity"][0] | {"output": output}
    if task != "multiclass":
        parity |= {"top1_match": None}
    manifest["proof"]["parity"] = [parity | {"artifact": a} for a in ("saved_model", "onnx")]
    (version / "manifest.json").write_text(json.dumps(manifest))
    onnx.save(_model(output, end, size, batch), version / "model.onnx")
    session = onnxruntime.InferenceSession(version / "model.onnx")
    (predicted,) = session.run([output], {"image": images})
    for file, array in (("input_0", images), ("output_0", predicted)):
        tensor = numpy_helper.from_array(array, "image" if file == "input_0" else output)
        (version / "test_data_set_0" / f"{file}.pb").write_bytes(tensor.SerializeToString())
    write_checksums(version)
    return version


def _model(output, end, size, batch):
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels", "pixels"], ["means"], keepdims=0),
        helper.make_node("Sub", ["means", "middle"], ["above"]),
        helper.make_node("Mul", ["above", "slope"], ["scores"]),
        end,
    ]
    constants = {"pixels": np.int64([1, 2]), "middle": np.float32(128), "slope": np.float32(0.2)}
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, *size, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
