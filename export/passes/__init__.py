"""Passes over an ONNX graph, each from a graph to one that computes the same: run by `pipeline`.

Nothing here knows Keras or TensorFlow.
"""
