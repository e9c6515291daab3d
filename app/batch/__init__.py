"""Predicts data sets of any size: files in, lines of JSON out, and a killed job goes on."""

from .job import Job, Summary, run_job
from .pools import choose_pool

__all__ = ["Job", "Summary", "choose_pool", "run_job"]
