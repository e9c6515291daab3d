"""Batch jobs: predict data sets of any size, from files to lines of JSON or a file of features.

A job runs where TensorFlow is not installed, so nothing here imports it, `models` or `export`.
"""

from .job import Job, Summary, run_job
from .pools import choose_pool

__all__ = ["Job", "Summary", "choose_pool", "run_job"]
