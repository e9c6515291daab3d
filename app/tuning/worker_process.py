"""The program of an additional worker on this machine, started by `app.tuning.local_workers`.

Its search is passed in an environment variable, since command-line arguments are visible in process
lists, and the URL of a database may contain a password.
"""

import json
import os
import sys

from app.system.notes import hide_notes
from app.system.signals import INTERRUPTED
from app.system.tensorflow_import import import_tensorflow_quietly
from serving.errors import HornbillError

STUDY = "HORNBILL_STUDY"
PROGRAM = (sys.executable, "-m", "app.tuning.worker_process")


def main() -> int:
    """Run trials of the search that `HORNBILL_STUDY` describes; return the exit status."""
    import_tensorflow_quietly()
    from .storage import StudyLocation  # noqa: PLC0415 - imports TensorFlow, which would print
    from .trial_loop import work  # noqa: PLC0415

    payload = json.loads(os.environ[STUDY])
    location = StudyLocation(payload.pop("address"), payload.pop("study"))
    try:
        work(location, **payload)
    except HornbillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    hide_notes()
    sys.exit(main())
