"""Exports a finished run or a Keras file as a bundle, and benchmarks a bundle.

The format of bundles is defined in `export` and `serving`. Nothing here implements training.
"""
