"""Errors of `app`. Each message is one line: the rule, the value received, the fix.

HornbillError
└── AppError (also a ValueError)
    ├── BatchError     a batch job cannot start or continue
    ├── ConfigError    a setting is unknown or out of range
    │   └── OwnSettingError   code of the user that a setting names raised an error
    ├── DataError      a data source cannot be used
    ├── RunError       a run cannot start or continue, or its folder is missing or changed
    │   └── OwnCodeError   code of the user raised an error while training
    ├── SharingError   a bundle cannot be handed on or fetched
    ├── StudyError     a study is unknown, or its results cannot be written
    └── TuningError    a search is impossible, or its storage does not respond
"""

from serving.errors import HornbillError


class AppError(HornbillError, ValueError):
    """Base class of the errors of this package. Files that existed before are untouched."""


class BatchError(AppError):
    """A batch job cannot start or continue. Finished parts are kept."""


class ConfigError(AppError):
    """A setting is unknown, mistyped or out of range."""


class OwnSettingError(ConfigError):
    """A callback, loss or metric of the user raised an error when it was made or tried out."""


class DataError(AppError):
    """A data source is unknown, unreadable or lacks required content."""


class RunError(AppError):
    """A run cannot start or continue, or its folder is missing, unfinished or changed."""


class OwnCodeError(RunError):
    """A callback, model, loss, metric or pipeline of the user raised an error while training.

    Args:
        message: the message.
        is_lasting: whether a run that begins anew would end in the same way.
    """

    def __init__(self, message: str, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class SharingError(AppError):
    """A registry, an image layout or an MLflow server cannot be used, or what it holds differs."""


class StudyError(AppError):
    """A study is unknown, or its results cannot be written."""


class TuningError(AppError):
    """A search is impossible, one has other settings or data, or its storage is down."""
