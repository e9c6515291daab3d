"""The errors of `app`, each one line: the rule, the value received, the fix.

HornbillError
└── AppError (also a ValueError)
    ├── BatchError     a batch job cannot start or go on
    ├── ConfigError    a setting is unknown or out of range
    ├── DataError      a data source cannot be used
    ├── RunError       a run's folder is missing, unfinished or changed
    ├── StudyError     a study is unknown, or its results cannot be written
    └── TuningError    a search is impossible, or its storage does not answer
"""

from serving.errors import HornbillError


class AppError(HornbillError, ValueError):
    """Anything that this package reports. What was on disk before is untouched."""


class BatchError(AppError):
    """A batch job cannot start or go on. Parts that were finished are kept."""


class ConfigError(AppError):
    """A setting is unknown, mistyped or out of range."""


class DataError(AppError):
    """A data source is unknown, unreadable or does not hold what it must."""


class RunError(AppError):
    """A run's folder is missing, unfinished, or its data has changed."""


class StudyError(AppError):
    """A study is unknown, or its results cannot be written."""


class TuningError(AppError):
    """A search is impossible, its study is another's, or its storage does not answer."""
