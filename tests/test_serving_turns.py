"""Long requests in parts, and the turns of queues for threads."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.errors import InputError
from serving.server.batching import Batcher, Cost, Limits
from serving.server.errors import RequestError
from serving.server.turns import Turns

# A part has 11 rows at first, and a batch is never quick enough for the event loop.
COST = Cost(10.0, 1.0, 1)


class Runs:
    """Runs batches one at a time, each when `step` allows it; notes whose rows they have."""

    def __init__(self):
        self.seen = []
        self.step = threading.Semaphore(0)

    def batcher(self, name, turns, limits=Limits(10_000, 64)):  # noqa: B008  # it is frozen
        def run(arrays):
            assert self.step.acquire(timeout=30)
            self.seen.append((name, len(arrays["x"])))
            return [2 * arrays["x"]]

        return Batcher(run, check, COST, turns, limits)


def check(arrays):
    if (arrays["x"] < 0).any():
        raise InputError("x must be positive. Received: another.")


def request(rows, first=0):
    return {"x": np.arange(first, first + rows, dtype=np.float32)[:, np.newaxis]}


def run(scenario):
    """Run a scenario with a thread for batches; return what it returns, and the batches."""
    runs = Runs()

    async def main():
        with ThreadPoolExecutor(1) as executor:
            return await asyncio.wait_for(scenario(runs, Turns(executor, 1)), 60)

    return asyncio.run(main()), runs.seen


async def begin(batcher, *requests):
    tasks = [asyncio.create_task(batcher.infer(arrays)) for arrays in requests]
    await asyncio.sleep(0.01)
    return tasks


def test_a_small_request_waits_for_three_batches_however_many_large_ones_wait():
    async def scenario(runs, turns):
        batcher = runs.batcher("digits", turns)
        large = await begin(batcher, *[request(500, first) for first in range(10)])
        (small,) = await begin(batcher, request(1))
        for _ in range(3):
            runs.step.release()
        await small
        runs.step.release(1000)
        return await asyncio.gather(*large)

    responses, seen = run(scenario)
    assert ("digits", 1) in seen[:3]
    for first, (doubled,) in enumerate(responses):
        np.testing.assert_array_equal(doubled, 2 * request(500, first)["x"])


def test_a_small_request_waits_for_the_large_ones_of_other_models_no_longer():
    async def scenario(runs, turns):
        busy = [runs.batcher(f"busy{number}", turns) for number in range(5)]
        large = [await begin(batcher, request(300)) for batcher in busy]
        (small,) = await begin(runs.batcher("digits", turns), request(1))
        runs.step.release(1000)
        await small
        batches = runs.seen.index(("digits", 1)) + 1
        await asyncio.gather(*[task for tasks in large for task in tasks])
        return batches

    batches, seen = run(scenario)
    assert batches <= 3
    models = [name for name, _ in seen if name != "digits"]
    assert models[:5] == [f"busy{number}" for number in range(5)]  # in turn


def test_small_requests_do_not_hold_up_a_large_one():
    async def scenario(runs, turns):
        small, large = (runs.batcher(name, turns, Limits(10_000, 1)) for name in ("small", "large"))
        tasks = await begin(small, *[request(1)] * 20) + await begin(large, request(22))
        runs.step.release(1000)
        await asyncio.gather(*tasks)

    _, seen = run(scenario)
    assert [name for name, _ in seen][:4] == ["small", "large"] * 2


def test_a_model_of_whole_batches_is_never_run_in_parts():
    async def scenario(runs, turns):
        batcher = runs.batcher("whole", turns, Limits(10_000, 1, is_whole=True))
        runs.step.release(1000)
        return await batcher.infer(request(500))

    (doubled,), seen = run(scenario)
    assert seen == [("whole", 500)]
    assert len(doubled) == 500


def test_a_large_request_is_refused_before_a_part_of_it_is_run():
    async def scenario(runs, turns):
        with pytest.raises(RequestError, match="x must be positive"):
            await runs.batcher("digits", turns).infer(request(500, -1))

    assert run(scenario)[1] == []


def test_parts_of_a_request_that_nobody_waits_for_are_not_run():
    async def scenario(runs, turns):
        batcher = runs.batcher("digits", turns)
        gone, kept = await begin(batcher, request(500), request(500))
        gone.cancel()
        runs.step.release(1000)
        await kept
        assert batcher.waiting == 0

    _, seen = run(scenario)
    assert sum(rows for _, rows in seen) <= 11 + 500  # the first part was under way


def test_a_large_batch_never_runs_on_the_event_loop_whatever_was_measured():
    threads = []

    def note(arrays):
        threads.append((threading.current_thread() is threading.main_thread(), len(arrays["x"])))
        return [arrays["x"]]

    async def ask():
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(
                note, check, Cost(0.1, 0.0, 1), Turns(executor, 1), Limits(10_000, 64)
            )
            for rows in (1, 65, 10_000):
                await asyncio.wait_for(batcher.infer(request(rows)), 30)

    asyncio.run(ask())
    assert threads[:3] == [(True, 1), (False, 65), (False, 1024)]
    assert not any(is_main for is_main, _ in threads[3:])
