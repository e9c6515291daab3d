"""Batch prediction of data sets of any size: files in, JSON lines out; a killed job resumes."""

from .job import Job, Summary, run_job
from .pools import choose_pool

__all__ = ["Job", "Summary", "choose_pool", "run_job"]
