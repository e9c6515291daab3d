"""Results of benchmarks are merged by name, and never lost while they are measured again."""

import json

import pytest

from benchmarks import results


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def stored(name="speed"):
    return {row["what"]: row for row in results.read_results(name)}


def test_a_row_has_its_machine_and_its_commit_and_replaces_the_one_of_its_name():
    results.write_results("speed", [{"what": "a", "ms": 1}, {"what": "b", "ms": 2}])
    results.write_results("speed", [{"what": "a", "ms": 3}])
    assert {what: row["ms"] for what, row in stored().items()} == {"a": 3, "b": 2}
    assert stored()["a"]["machine"] == results.describe_machine()
    assert set(stored()["a"]["commit"]) <= set("0123456789abcdef")


def test_fewer_repetitions_do_not_replace_more_and_can_be_extended():
    results.write_results("speed", [{"what": "a", "ms": [1, 2]}], repeated="ms")
    results.write_results("speed", [{"what": "a", "ms": [3]}], repeated="ms")
    assert stored()["a"]["ms"] == [1, 2]
    (begun,) = results.results_of_this_machine("speed")
    assert begun["ms"] == [3]
    results.write_results("speed", [{**begun, "ms": [3, 4]}], repeated="ms")
    assert stored()["a"]["ms"] == [3, 4]
    assert "next" not in stored()["a"]


def test_only_rows_of_a_machine_with_the_same_instructions_are_extended(folder):
    machine = results.describe_machine()
    older = {key: value for key, value in machine.items() if key != "instructions"}
    rows = [
        {"what": "older", "machine": older},
        {"what": "same", "machine": machine},
        {"what": "other", "machine": {**machine, "instructions": "SSE4"}},
    ]
    (folder / "speed.json").write_text(json.dumps(rows))
    assert [row["what"] for row in results.results_of_this_machine("speed")] == ["older", "same"]


def test_a_failed_write_leaves_the_old_file(folder):
    results.write_results("speed", [{"what": "a", "ms": 1}])
    with pytest.raises(TypeError):
        results.write_results("speed", [{"what": "a", "ms": object()}])
    assert [path.name for path in folder.iterdir()] == ["speed.json"]
    assert json.loads((folder / "speed.json").read_text())[0]["ms"] == 1
