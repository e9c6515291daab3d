"""Functions that stand in for a study in tests of the processes alone."""

import time

from app.errors import StudyError


def finish(name, output, seeds, quick, observer):
    observer.study_started(name, 1)
    observer.part_finished(name)
    observer.study_finished(name)
    return f"{name}, {seeds} seeds"


def wait(name, output, seeds, quick, observer):
    (output / name).touch()
    time.sleep(600)


def fail_at_worked_example(name, output, seeds, quick, observer):
    if name == "worked-example":
        raise StudyError("This study must fail. Received: worked-example.")
    wait(name, output, seeds, quick, observer)
