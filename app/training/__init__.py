"""Training of a model: losses, optimizers, callbacks, checkpoints and the training loop.

Nothing here knows the files of a run's folder or draws a figure.
"""
