"""The errors of `models`, which need no Keras."""


class BackboneError(ValueError):
    """A backbone cannot be built: its file is missing or of another kind, or images do not fit."""


class OwnModelError(ValueError):
    """A model of a user cannot be used: its inputs or outputs do not suit the data."""
