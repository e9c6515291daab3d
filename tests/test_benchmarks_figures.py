"""The page of benchmarks says what was measured, and whether it meets its goal."""

import pytest

from benchmarks.figures import export, serving, training


@pytest.fixture
def stored(monkeypatch):
    """Return a function that replaces the stored results by rows."""

    def replace(*rows):
        for module in (export, serving, training):
            monkeypatch.setattr(module, "read_results", lambda _name: list(rows))

    return replace


@pytest.mark.parametrize(("reached", "met"), [([True, True], True), ([True, False], False)])
def test_a_speedup_counts_only_if_all_of_our_runs_reached_the_accuracy(stored, reached, met):
    stored({
        "what": "a", "goal": 0.99, "speedup": 6.0,
        "ours_reached_goal": reached, "theirs_reached_goal": [True, False],
    })  # fmt: skip
    (figure,) = training.time_to_accuracy()
    assert (figure.measured, figure.met) == ("more than 6.0 times", met)


@pytest.mark.parametrize(
    ("accuracy", "speedup", "measured", "met"),
    [
        (0.92, {}, "not measured", None),
        (0.92, {"speedup": 6.0}, "6.0 times", True),
        (0.89, {"speedup": 6.0}, "6.0 times", False),
    ],
)
def test_a_race_is_shown_and_is_won_only_at_the_accuracy(stored, accuracy, speedup, measured, met):
    runs = {"ours": [{"accuracy": accuracy}], "theirs": [{"accuracy": 0.9}]}
    stored({"what": "race", "name": "race", "goal": 0.9, **runs, **speedup})
    (figure,) = training.cifar10()
    assert (figure.measured, figure.met) == (measured, met)


@pytest.mark.parametrize(("kind", "status"), [("single images", "503"), ("health", "0")])
def test_an_attack_is_withstood_only_if_all_others_are_answered(stored, kind, status):
    row = {"p50_ms": 1, "p50_before_ms": 1, "p99_ms": 2, "peak_mb": 99}
    statuses = {"single images": {"200": 9}, "health": {"200": 9}, "lists": {"413": 9}}
    stored({**row, "statuses": statuses})
    assert all(figure.met for figure in serving.attack())
    stored({**row, "statuses": {**statuses, kind: {"200": 9, status: 1}}})
    assert [figure.met for figure in serving.attack()].count(False) == 1


def test_noise_does_not_hide_a_slower_model(stored):
    agreeing = {"agrees": True, "transposes": 0}
    latency = {"ratio": 1.2, "interval": [1.15, 1.25], "noise": 1.3}
    stored({
        "what": "a", "kind": "zoo", "ours": agreeing, "theirs": agreeing, "latency": latency
    }, {
        "what": "b", "kind": "application", "ours": agreeing, "theirs": agreeing,
        "latency": latency,
    })  # fmt: skip
    slower = [
        figure for figure in export.conversion() if "slower by more than 10%" in figure.metric
    ]
    assert [(figure.measured, figure.met) for figure in slower] == [("1", False), ("1", False)]
