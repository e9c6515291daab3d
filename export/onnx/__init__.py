"""From a traced function to an ONNX graph: tf2onnx, and the operators that it lacks.

What changes a graph that is ONNX already belongs to `export.passes`.
"""
