"""Passes over an ONNX graph that keep what it computes; `pipeline` runs them in order.

Nothing here depends on Keras or TensorFlow.
"""
