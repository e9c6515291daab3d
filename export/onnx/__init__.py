"""From a traced function to an ONNX graph: tf2onnx, the operators that it lacks, and their parts.

What a graph is turned into once it is ONNX belongs to `export.passes`.
"""
