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
    files = {"cpu.max": v2}
    if v1 is not None:
        files |= {"cpu/cpu.cfs_quota_us": v1[0], "cpu/cpu.cfs_period_us": v1[1]}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")
    assert available_cores(tmp_path, tmp_path / "none") == cores


def test_the_smallest_quota_of_a_unit_and_of_what_it_is_in_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    membership = tmp_path / "cgroup"
    membership.write_text("0::/system.slice/hornbill.service\n")
    unit = tmp_path / "system.slice" / "hornbill.service"
    unit.mkdir(parents=True)
    (unit / "cpu.max").write_text("200000 100000\n")
    (unit.parent / "cpu.max").write_text("max 100000\n")
    assert available_cores(tmp_path, membership) == 2
    (unit.parent / "cpu.max").write_text("100000 100000\n")
    assert available_cores(tmp_path, membership) == 1
