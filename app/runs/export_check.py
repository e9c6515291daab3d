"""Tells before a training whether the model can be exported afterwards."""

import keras

from app.data.reading_progress import tell, tell_step


def tell_unless_exportable(model: keras.Model, has_columns: bool) -> str:
    """Tell why ONNX cannot express a model of the user's, so that a training is not for nothing.

    The model is converted as an export begins: a small one in some tenths of a second, a ResNet50
    in ten. Whether its graph computes the same, only the proof of an export shows. Nothing is told
    where Keras does not run on TensorFlow, which an export needs.

    Args:
        model: the untrained model.
        has_columns: whether its inputs are columns of a table.

    Returns:
        The reason, one line; empty if the model can be exported, or nothing is known.
    """
    if keras.backend.backend() != "tensorflow":
        return ""
    tell_step("checking that the model can be exported")
    from export.errors import ExportError
    from export.inference import trace_inference
    from export.onnx.convert import convert_to_graph

    try:
        convert_to_graph(trace_inference(model, has_columns=has_columns), {})
    except ExportError as error:
        tell(f"This model can be trained, but not be exported. {error}")
        return str(error)
    return ""
