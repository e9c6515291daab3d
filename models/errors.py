"""The error of `models`, which needs no Keras."""


class BackboneError(ValueError):
    """A backbone cannot be built: its file is missing or of another kind, or images do not fit."""
