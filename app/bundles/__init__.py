"""Exports a finished run or a Keras file as a bundle; evaluates, compares and benchmarks bundles.

The format of bundles is defined in `export` and `serving`. Nothing here implements training.
"""
