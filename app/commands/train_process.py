"""The program of one process of a distributed run, started by `app.distributed.launching`."""

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from app.distributed.cluster import Cluster
from app.distributed.launching import PEER_LOST
from app.system.atomic_files import write_json
from app.system.child_process import end_with_parent
from app.system.notes import hide_notes
from app.system.signals import INTERRUPTED
from app.system.tensorflow_import import import_tensorflow_quietly
from serving.errors import HornbillError

PROGRAM = (sys.executable, "-m", "app.commands.train_process")
# JAX raises several classes when it cannot reach another process; each names one of these.
_CONNECTIONS = ("Gloo", "NCCL", "coordination service")


def main() -> int:
    """Train as one of several processes, and return the exit status that `launching` reads."""
    payload = json.loads(sys.argv[1])
    end_with_parent(INTERRUPTED)
    hide_notes()
    log = sys.stderr
    # Python's output goes to the console; what native libraries write goes to the log.
    sys.stdout = os.fdopen(payload["output"], "w", encoding="utf-8")
    sys.stderr = os.fdopen(payload["error"], "w", encoding="utf-8")
    if payload["cores"]:
        os.sched_setaffinity(0, payload["cores"])  # libraries size their thread pools by it
    try:
        _train(payload)
    except HornbillError as error:
        log.write(f"{error}\n")
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        traceback.print_exception(error, file=log)
        return PEER_LOST if any(name in str(error) for name in _CONNECTIONS) else 1
    finally:
        with contextlib.suppress(OSError):  # the reader may be gone
            for stream in (log, sys.stdout, sys.stderr):
                stream.flush()
    return 0


def _train(payload: dict[str, Any]) -> None:
    import_tensorflow_quietly()
    from app.distributed.team import join

    from .train import Request, run_training

    status_file = Path(payload["status_file"])
    team = join(Cluster(**payload["cluster"]), payload["number"])
    write_json(status_file, {"joined": True})
    team.announce = lambda folder: write_json(status_file, {"run": str(folder)})
    run_training(Request(**payload["request"]), team)
    team.leave()


if __name__ == "__main__":
    os._exit(main())  # a normal exit would let JAX wait for lost processes
