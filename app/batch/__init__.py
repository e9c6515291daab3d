"""Batch jobs: predict data sets of any size, from files to a table, lines of JSON or features.

A job runs where TensorFlow is not installed, so nothing here imports it, `models` or `export`.
"""

from .job import Job, Summary, run_job
from .pools import choose_pool, predict_here

__all__ = ["Job", "Summary", "choose_pool", "predict_here", "run_job"]
