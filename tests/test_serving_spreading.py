"""Spreading calls over threads, and interrupting them."""

import signal
import threading
import time

import pytest

from serving.spreading import spread


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_an_interruption_is_raised_after_all_running_calls_have_ended():
    both = threading.Barrier(2)
    ended = []

    def call(number):
        both.wait(10)  # so that each thread has one
        if threading.current_thread() is not threading.main_thread():
            interrupt()  # the main thread waits for this one, or is about to
            time.sleep(0.2)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        spread(call, 2, 2)
    assert sorted(ended) == [0, 1]


def test_without_room_for_threads_the_results_are_the_same(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert spread(lambda number: number**2, 5, 4) == [0, 1, 4, 9, 16]


def test_after_an_interruption_no_further_call_starts():
    begun = []

    def call(number):
        begun.append(number)
        if number == 1:
            interrupt()
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        spread(call, 100, 2)
    assert len(begun) < 10
