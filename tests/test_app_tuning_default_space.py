"""A search without `--search`: its space, its first trial; what its trials say, with intervals."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.config.run_config import config_toml, flat_config
from app.errors import TuningError
from app.tuning.default_space import default_space
from app.tuning.definition import Definition, checked, make_definition
from app.tuning.importance import measure_importance, trials_needed
from app.tuning.progress import describe_space
from app.tuning.results import describe_lack
from app.tuning.search import Observer, find_study, tune
from app.tuning.search_space import parse_space, place_settings, read_settings
from app.tuning.storage import load_study

ROWS, COLOR, GRAY = (10,), (32, 32, 3), (28, 28, 1)
CASES = {
    "softmax": ("softmax", {}, 100, ROWS),
    "softmax, penalty": ("softmax", {"l2": 0.05, "batch_size": 1}, 100, ROWS),
    "few rows": ("features", {}, 300, ROWS),
    "many rows": ("features", {}, 50_000, ROWS),
    "values": ("features", {"head": "linear"}, 3_000, ROWS),
    "labels": ("features", {"head": "sigmoid", "dropout": 0.7}, 3_000, ROWS),
    "linear": ("features", {"hidden": []}, 3_000, ROWS),
    "widths": ("features", {"hidden": [64, 32]}, 3_000, ROWS),
    "photographs": ("features", {}, 5_000, COLOR),
    "few pictures": ("features", {}, 100, GRAY),
    "pixels": ("features", {"backbone": "mlp", "hidden": [32, 32, 32, 32]}, 100, GRAY),
    "application": ("features", {"backbone": "MobileNetV2", "weights": "imagenet"}, 900, COLOR),
    "frozen": ("features", {"backbone": "MobileNetV2", "freeze": "all"}, 900, COLOR),
    "digits": ("digits", {}, 1_000, (28, 28)),
    "digits, mlp": ("digits", {"variant": "mlp", "augmentation.rotation": 30}, 1_000, (28, 28)),
}


@pytest.mark.parametrize("name", CASES)
def test_each_family_and_kind_of_data_has_a_space_that_holds_its_defaults(name):
    family, settings, samples, shape = CASES[name]
    base = choose_defaults(make_config(family, settings), samples, shape)
    declared = default_space(base, "rows" if len(shape) == 1 else "images")
    space = parse_space(declared, base)
    assert "optimizer.learning_rate" in declared
    first = place_settings(space, flat_config(base))
    drawn = read_settings(space, first)
    wanted = flat_config(base)
    for key, value in drawn.items():
        assert value == (list(wanted[key]) if key == "hidden" else wanted[key])
    checked(Definition(base, space, make_definition(family, {}).budget))
    assert len(first) <= 10


def test_values_outside_a_space_have_no_place():
    base = make_config("features", {"hidden": [8, 4], "dropout": 0.7, "activation": "gelu"})
    settings = flat_config(base)
    for declared in (
        {"hidden": "layers:1..2x4..8"},
        {"dropout": "uniform:0..0.5"},
        {"activation": "choice:relu|tanh"},
    ):
        assert place_settings(parse_space(declared, base), settings) is None


class _StopError(Exception):
    pass


def _stop(*_):
    raise _StopError


def begin(definition, folder):
    """Begin a search without a trial; return its study and its definition as the search has it."""
    seen = []

    def stop(study, settled):
        seen.append(settled)
        raise _StopError

    with pytest.raises(_StopError):
        tune(definition, folder, observer=Observer(stop))
    (path,) = (folder / definition.base.family).iterdir()
    return load_study(find_study(str(path))[0]), seen[0]


def test_the_first_trial_has_the_defaults_and_the_space_is_shown(tmp_path):
    definition = make_definition("features", {}, {"trials": 3}, settings={"dropout": 0.1})
    study, settled = begin(definition, tmp_path)
    (trial,) = study.trials
    keys = {field.key for field in settled.space}
    assert "dropout" not in keys  # it was set
    assert {"hidden", "numeric_embedding", "optimizer.weight_decay"} <= keys
    first = trial.system_attrs["fixed_params"]
    assert read_settings(settled.space, first)["optimizer.learning_rate"] == 0.001
    lines = describe_space(study, settled)
    assert lines[0] == "search: optimizer.learning_rate log:0.00025..0.004"
    assert lines[-1] == "The first trial has the defaults that suit the data."
    assert len(lines) == len(keys) + 1


def test_a_search_that_is_declared_replaces_the_default_space(tmp_path):
    definition = make_definition("softmax", {"l2": "log:1e-5..1"}, {"trials": 2})
    study, settled = begin(definition, tmp_path)
    assert [field.key for field in settled.space] == ["l2"]
    assert study.trials == []
    assert describe_space(study, settled) == ["search: l2 log:1e-5..1"]


def test_settings_of_a_file_are_the_middle_and_those_that_are_set_are_fixed(tmp_path):
    path = tmp_path / "config.toml"
    settings = {"optimizer.learning_rate": 0.1, "batch_size": 32}
    path.write_text(config_toml(make_config("softmax", settings)))
    definition = make_definition(None, {}, {"trials": 1}, file=path, settings={"l2": 0.5})
    _, settled = begin(definition, tmp_path)
    assert {field.key: field.text for field in settled.space} == {
        "optimizer.learning_rate": "log:0.025..0.4",
        "batch_size": "log:8..128",
    }
    assert settled.base.model.l2 == 0.5


def test_a_default_space_that_is_all_fixed_is_refused(tmp_path):
    fixed = {"optimizer.learning_rate": 0.1, "batch_size": 32, "l2": 0.0}
    with pytest.raises(TuningError, match="at least one setting. Received: fixed values of all"):
        tune(make_definition("softmax", {}, settings=fixed), tmp_path)
    assert not (tmp_path / "softmax").exists()


def study_of(count, seed=0):
    """A study whose losses depend on its first setting, hardly on the second, not on the third."""
    random = np.random.default_rng(seed)
    values = random.random((count, 3))
    losses = 3 * (values[:, 0] - 0.4) ** 2 + 0.2 * values[:, 1] + 0.02 * random.normal(size=count)
    names = {f"{name}": FloatDistribution(0, 1) for name in "abc"}
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(zip(names, row, strict=True)), distributions=names, value=loss
        )
        for row, loss in zip(values.tolist(), losses.tolist(), strict=True)
    )
    return study


def test_importance_has_intervals_that_narrow_with_more_trials(monkeypatch):
    monkeypatch.setattr("app.tuning.importance._RESAMPLES", 20)
    few, many = (measure_importance(study_of(count), 0) for count in (16, 60))
    assert next(iter(many)) == "a"
    for found in (few, many):
        assert all(0 <= each.low <= each.fraction <= each.high <= 1 for each in found.values())
        assert sum(each.fraction for each in found.values()) == pytest.approx(1)
    assert many["a"].low > many["c"].high
    assert many["a"].high - many["a"].low < few["a"].high - few["a"].low
    assert measure_importance(study_of(60), 0) == many


def test_trials_with_equal_losses_have_no_importance():
    study = optuna.create_study()
    for _ in range(20):
        study.tell(study.ask({"a": FloatDistribution(0, 1)}), 1.0)
    assert measure_importance(study, 0) == {}


def test_the_number_of_trials_that_it_takes_grows_with_the_space():
    assert [trials_needed(count) for count in (1, 4, 9)] == [12, 18, 28]
    assert describe_lack(12, 1) == ""
    assert describe_lack(11, 1) == (
        "Importance and advice need 12 finished trials for 1 searched dimension. Received: 11, "
        "without pruned ones"
    )
