"""The program of one more worker on this machine: `python -m app.tuning.worker_process`.

Its study comes by the environment, where no list of processes shows a password.
"""

import json
import os
import sys

from app.errors import AppError
from app.system.tensorflow_import import import_tensorflow_quietly

STUDY = "HORNBILL_STUDY"


def main() -> int:
    """Work for the study that `HORNBILL_STUDY` describes; 2 where its data or storage fail."""
    import_tensorflow_quietly()
    from .storage import StudyLocation  # noqa: PLC0415 - Keras would bring TensorFlow and its remarks
    from .trial_loop import work  # noqa: PLC0415

    told = json.loads(os.environ[STUDY])
    place = StudyLocation(told.pop("address"), told.pop("study"))
    try:
        work(place, **told)
    except AppError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
