"""The number of processors that a process may use."""

import os

import pytest

from serving.cores import available_cores


@pytest.mark.parametrize(
    ("v2", "v1", "cores"),
    [
        ("max 100000", None, 8),
        ("150000 100000", None, 2),
        ("20000 100000", None, 1),
        ("9900000 100000", None, 8),
        ("nonsense", None, 8),
        (None, ("300000", "100000"), 3),
        (None, ("-1", "100000"), 8),
        (None, None, 8),
    ],
)
def test_the_cgroup_quota_limits_the_number_of_cores(v2, v1, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    paths = [tmp_path / name for name in ("cpu.max", "quota", "period")]
    for path, text in zip(paths, (v2, *(v1 or (None, None))), strict=True):
        if text is not None:
            path.write_text(f"{text}\n")
    assert available_cores(paths[0], (paths[1], paths[2])) == cores
