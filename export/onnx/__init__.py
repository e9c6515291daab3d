"""Converts a traced function to an ONNX graph: tf2onnx, and handlers for operators that it lacks.

Changes to a graph that is already ONNX belong to `export.passes`.
"""
