"""Fitting a model: pipelines in, weights out. Losses, optimizers, callbacks, checkpoints.

Nothing here knows the layout of a run's folder or draws a figure.
"""
