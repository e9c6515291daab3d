"""Separate processes without the seconds that TensorFlow needs to be imported.

A server imports it once, without starting threads, and forks a process for each function. These
are functions of modules; those of tests are imported again in the process.
"""

import functools
import multiprocessing
import os
import sys
from multiprocessing import forkserver

import pytest

from app.commands.cli import main

FORKS = multiprocessing.get_context("forkserver")
IMPORTED = [
    "app.bundles.export_run",
    "app.bundles.keras_files",
    "app.runs.train",
    "app.training.fit",
    "app.tuning.search",
]


@functools.cache
def _start_server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "12")  # another order of sets than in this process
        FORKS.set_forkserver_preload(IMPORTED)
        forkserver.ensure_running()


def start(function, *arguments):
    """Start a function in a separate process; return the process."""
    _start_server()
    process = FORKS.Process(target=function, args=arguments)
    process.start()
    return process


def result_of(function, *arguments):
    """Run a function in a separate process; return what it sends to its last argument."""
    receiver, sender = FORKS.Pipe(duplex=False)
    process = start(function, *arguments, sender)
    sender.close()
    with receiver:
        found = receiver.recv()
    process.join()
    assert process.exitcode == 0
    return found


def start_command(*arguments, error=os.devnull):
    """Start a command in a separate process, with a file for standard error; None closes it."""
    return start(_run, [str(argument) for argument in arguments], error)


def _run(arguments, error):
    if error is None:  # as Python begins without it
        os.close(2)
        sys.stderr = None
    else:
        os.dup2(os.open(error, os.O_WRONLY | os.O_CREAT), 2)
    main(arguments)
