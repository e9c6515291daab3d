"""Passes over an ONNX graph: each returns a graph that computes the same; `pipeline` runs them.

Nothing here knows Keras or TensorFlow.
"""
