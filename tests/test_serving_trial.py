"""Bundles that never end, take all memory or crash: they fail, and nothing else does."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_graphs import add_endless_loop, add_large_tensor, write_hostile
from processes import is_alive
from waiting import wait_until

from serving import ManifestError, verify_bundle
from serving.free_memory import free_memory
from serving.limited_process import LimitError, Limits, limits_for
from serving.server.trials import Trials
from serving.trial import start_process, try_version, verify_in_limits
from serving.verify import Check

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a limit")


@pytest.fixture(scope="module")
def hostile(row_bundle, tmp_path_factory):
    """A folder with two hostile models, `endless` and `large`."""
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(row_bundle, folder / "endless", add_endless_loop)
    write_hostile(row_bundle, folder / "large", add_large_tensor)
    return folder


@pytest.fixture(scope="module")
def process():
    process = start_process()
    yield process
    process.close()


def test_a_good_bundle_passes_the_same_checks_as_in_this_process(bundle):
    assert verify_in_limits(bundle.parent) == verify_bundle(bundle.parent)


def test_the_signature_is_checked_after_a_limit_was_reached(hostile):
    version = hostile / "endless" / "1"
    checks = verify_in_limits(version, lambda folder: folder.parent.name, max_seconds=0.5)
    assert checks[2].detail.endswith("at most 0.5 s. Received: a bundle that takes longer.")
    assert [check.name for check in checks if not check.passed] == ["behavior"]
    assert checks[3] == Check("signature", True, "endless")


def test_verify_reports_a_graph_without_end_as_a_failed_check(hostile, run):
    status, output, _ = run("verify", hostile / "endless" / "1", "--max-seconds", 0.5)
    assert status == 1
    assert output.splitlines()[-1] == (
        "FAIL  behavior   Verifying and loading a bundle must take at most 0.5 s. "
        "Received: a bundle that takes longer."
    )


@LINUX
def test_a_graph_that_takes_too_much_memory_fails_with_the_limit(hostile, process, row_bundle):
    checks = []
    version = hostile / "large" / "1"
    limits = Limits(60, 2e9)
    with pytest.raises(LimitError, match="at most 2 GB of memory. Received: a bundle that takes"):
        try_version(process, version, version, limits, checks.append, loads=True)
    assert [check.name for check in checks] == ["files", "contract"]
    try_version(process, row_bundle, row_bundle, limits, checks.append, loads=True)
    assert [check.name for check in checks[2:]] == ["files", "contract", "behavior", "loading"]
    assert all(check.passed for check in checks)


def test_a_process_that_is_killed_is_a_failure_and_the_next_bundle_gets_another(row_bundle):
    checks = []
    limits = limits_for(row_bundle)

    def kill(_check):
        process._process.kill()

    process = start_process()
    try:
        with pytest.raises(LimitError, match="SIGKILL") as caught:
            try_version(process, row_bundle, row_bundle, limits, kill, loads=False)
        assert caught.value.kind == "crash"
        try_version(process, row_bundle, row_bundle, limits, checks.append, loads=False)
    finally:
        process.close()
    assert all(check.passed for check in checks)


def test_a_trial_ends_with_the_process_that_started_it(hostile):
    code = (
        "from pathlib import Path; from serving.trial import *; from serving.trial import Limits;"
        "process, folder = start_process(), Path({!r});"
        "tell = lambda check: print(check.name, process._process.pid, flush=True);"
        "try_version(process, folder, folder, Limits(600, 4e9), tell, loads=False)"
    ).format(str(hostile / "endless" / "1"))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        line = ""
        while not line.startswith("contract"):
            line = parent.stdout.readline()
        parent.kill()
    child = int(line.split()[1])
    wait_until(lambda: not is_alive(child))


def test_a_bundle_that_is_missing_is_an_error_and_starts_no_process(tmp_path):
    with pytest.raises(ManifestError, match="must be an existing folder"):
        verify_in_limits(tmp_path / "none")


def test_limits_grow_with_the_files_and_are_generous(tmp_path):
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(10**12)  # a hole, which takes no room
    small = limits_for(tmp_path)
    (tmp_path / "model.onnx.data").write_bytes(bytes(10**7))
    large = limits_for(tmp_path)
    assert (round(small.seconds), round(large.seconds)) == (60, 70)
    assert small.memory >= min(4e9, 0.8 * free_memory())
    assert limits_for(tmp_path, 7, 0.5) == Limits(7, 0.5e9)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8e9),
        ({"memory.max": "max\n", "memory.current": "5\n", "memory.stat": ""}, 8e9),
        ({"memory.max": "100", "memory.current": "70", "memory.stat": "inactive_file 20"}, 50),
        (
            {
                "memory/memory.limit_in_bytes": "100",
                "memory/memory.usage_in_bytes": "120",
                "memory/memory.stat": "x\ntotal_inactive_file 20",
            },
            20,
        ),
    ],
)
def test_free_memory_is_that_of_the_cgroup_if_it_is_less(files, expected, tmp_path):
    host = tmp_path / "meminfo"
    host.write_text("MemTotal: 16000000 kB\nMemAvailable:  7812500 kB\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    none = tmp_path / "none"
    assert free_memory(host, tmp_path, none) == expected
    assert free_memory(none, none, none) == float("inf")


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage"),
    [
        ("0::/system.slice/hornbill.service", "", "memory.max", "memory.current"),
        (
            "4:cpu,memory:/system.slice/hornbill.service",
            "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_free_memory_is_the_least_of_a_unit_and_of_what_it_is_in(
    line, folder, limit, usage, tmp_path
):
    membership = tmp_path / "cgroup"
    membership.write_text(f"9:name=systemd:/a:b\n{line}\n")
    unit = tmp_path / folder / "system.slice" / "hornbill.service"
    unit.mkdir(parents=True)
    for group, text in ((unit, "100"), (unit.parent, "max"), (unit.parents[1], "90")):
        (group / limit).write_text(text)
        (group / usage).write_text("30")
        (group / "memory.stat").write_text("")
    none = tmp_path / "none"
    assert free_memory(none, tmp_path, none) == 60  # the root's
    assert free_memory(none, tmp_path, membership) == 60
    (unit / limit).write_text("40")
    assert free_memory(none, tmp_path, membership) == 10


def test_versions_that_take_long_make_room_for_others(hostile, row_bundle, monkeypatch):
    """As many endless ones as are tried at once, and a good one that comes later."""
    monkeypatch.setattr("serving.server.trials._QUICK_S", 0.3)
    monkeypatch.setattr("serving.server.trials._QUICK_FRACTION", 0.0)
    slow = []

    async def try_all():
        trials = Trials(max_seconds=600)
        endless = hostile / "endless" / "1"
        tasks = [
            asyncio.create_task(trials.run(endless, lambda: slow.append("endless")))
            for _ in range(2)
        ]
        while len(slow) < len(tasks):
            await asyncio.sleep(0.05)
        monkeypatch.setattr("serving.server.trials._QUICK_S", 60)
        try:
            return await trials.run(row_bundle, lambda: slow.append("good")), [
                task.done() for task in tasks
            ]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            trials.close()

    assert asyncio.run(try_all()) == (None, [False, False])
    assert slow == ["endless", "endless"]


def test_a_cancelled_trial_ends_its_process(hostile):
    async def cancel():
        trials = Trials()
        task = asyncio.create_task(trials.run(hostile / "endless" / "1", list))
        found = []
        while not found:
            await asyncio.sleep(0.05)
            found = [pid for pid in _children() if pid not in before]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        trials.close()
        return found

    before = set(_children())
    (child,) = asyncio.run(cancel())
    wait_until(lambda: not is_alive(child))


def _children():
    """Return the children of all threads of this process."""
    found = []
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return found
