"""From a traced function to an ONNX graph: tf2onnx, and the operators that it lacks.

Changes to a finished ONNX graph belong to `export.passes`.
"""
