"""The program of one process of a run: `python -m app.commands.train_process`, by `launch`."""

import contextlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from app.distributed.cluster import Cluster
from app.distributed.launching import LOST, STOPPED, WRONG_INPUT
from app.errors import AppError
from app.system.tensorflow_import import import_tensorflow_quietly


def main() -> int:
    """Train as one of several processes, and return how that ended, as `launching` reads it."""
    told = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    log = sys.stderr
    # Python writes to the console; what libraries write by themselves goes to the log.
    sys.stdout = os.fdopen(told["output"], "w", encoding="utf-8")
    sys.stderr = os.fdopen(told["error"], "w", encoding="utf-8")
    if told["cores"]:
        os.sched_setaffinity(0, told["cores"])  # which every library takes for its threads
    try:
        _train(told)
    except AppError as error:
        log.write(f"{error}\n")
        return WRONG_INPUT
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:
        traceback.print_exception(error, file=log)
        return LOST if _is_of_another(error) else 1
    finally:
        with contextlib.suppress(OSError):  # nobody may read any more
            for stream in (log, sys.stdout, sys.stderr):
                stream.flush()
    return 0


def _train(told: dict[str, Any]) -> None:
    import_tensorflow_quietly()
    from app.distributed.team import join

    from .train import Request, run_training

    note = Path(told["note"])

    def announce(folder: Path) -> None:
        _write(note, {"run": str(folder)})

    team = join(Cluster(**told["cluster"]), told["number"])
    _write(note, {"joined": True})
    team.announce = announce
    run_training(Request(**told["request"]), team)
    team.leave()


def _write(note: Path, what: dict[str, Any]) -> None:
    beside = note.with_suffix(".new")
    beside.write_text(json.dumps(what), "utf-8")
    beside.replace(note)


def _is_of_another(error: Exception) -> bool:
    """Return whether JAX could not reach another process, which it raises as this and that."""
    return any(word in str(error) for word in ("Gloo", "NCCL", "coordination service"))


def _end_with_the_launcher() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the other end is closed
    os._exit(STOPPED)


if __name__ == "__main__":
    os._exit(main())  # where others are lost, JAX would wait for them at the end
