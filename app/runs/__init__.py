"""A run: its folder, how it is trained from start to end or resumed, and what it leaves.

The training loop itself lives in `app.training`.
"""

from .run_folder import Run, read_run
from .train import resume, train

__all__ = ["Run", "read_run", "resume", "train"]
