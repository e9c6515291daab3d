"""A run: its folder, how it is trained or resumed, and the results that are written.

The training loop itself lives in `app.training`.
"""

from .run_folder import Run, read_run
from .train import resume, train

__all__ = ["Run", "read_run", "resume", "train"]
