"""Waits for what another thread or process does."""

import time

PATIENCE_S = 60


def wait_until(is_so):
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)
