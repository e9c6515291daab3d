"""Search spaces: how they are declared, what is drawn from them, and what is refused."""

import math

import optuna
import pytest

from app.config import make_config
from app.errors import ConfigError, TuningError
from app.tuning.definition import (
    Budget,
    check_effects,
    definition_toml,
    make_definition,
    read_definition,
)
from app.tuning.gp_sampler import GaussianProcessSampler
from app.tuning.learning_curve_advice import diagnose_epochs, diagnose_sizes
from app.tuning.samplers import grid, make_sampler
from app.tuning.search_space import dimensions, parse_searches, parse_space, read_settings

RATE = {"optimizer.learning_rate": "log:1e-4..1e-1"}


def space_of(family="features", **declared):
    return parse_space(declared, make_config(family))


def test_each_kind_of_field_draws_suitable_values():
    space = space_of(epochs="int:1..9", dropout="uniform:0..0.5", hidden="choice:64|64,32")
    drawn = {"epochs": 3, "dropout": 0.25, "hidden": "64,32"}
    assert read_settings(space, drawn) == {"epochs": 3, "dropout": 0.25, "hidden": [64, 32]}
    assert list(dimensions(space)) == ["epochs", "dropout", "hidden"]


def test_the_number_of_layers_and_their_units_are_searched():
    space = space_of(hidden="layers:1..3x16..256")
    assert list(dimensions(space)) == ["hidden.layers", "hidden.units"]
    drawn = {"hidden.layers": 3, "hidden.units": 40}
    assert read_settings(space, drawn) == {"hidden": [40, 40, 40]}


def test_a_logarithmic_range_of_whole_numbers_draws_whole_numbers():
    (each,) = dimensions(space_of(batch_size="log:8..128")).values()
    assert isinstance(each, optuna.distributions.IntDistribution)
    assert each.log


def test_a_definition_is_read_back_as_it_was_written():
    declared = {**RATE, "hidden": "layers:1..2x4..8", "activation": "choice:relu|tanh"}
    definition = make_definition(
        "features", declared, {"trials": 9, "folds": 3}, settings={"epochs": 2, "data": "wine"}
    )
    text = definition_toml(definition)
    again = read_definition(text)
    assert definition_toml(again) == text
    assert (again.budget, again.base) == (definition.budget, definition.base)


def test_a_file_declares_fields_and_budget_and_the_command_line_overrides_it(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        'family = "features"\nepochs = 3\nhidden = [4]\n[tuning]\ntrials = 7\nfolds = 2\n'
        '[search]\noptimizer.learning_rate = "log:1e-3..1e-1"\nhidden = "choice:4|8"\n'
    )
    definition = make_definition(None, RATE, {"trials": 5}, file=path)
    assert (definition.budget.trials, definition.budget.folds) == (5, 2)
    assert {field.key: field.text for field in definition.space} == {**RATE, "hidden": "choice:4|8"}
    assert definition.base.training.epochs == 3


def test_the_budget_is_forty_trials_unless_minutes_are_given():
    assert Budget().trials == 40
    assert Budget(minutes=1.5).trials is None


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"epoch": "int:1..3"}, "'epoch' is not a setting of features. Did you mean 'epochs'?"),
        ({"epochs": "imt:1..3"}, "must begin with one of int, .*=imt:1..3. Did you mean 'int'?"),
        ({"epochs": "int:1..x"}, "A range must be LOW..HIGH, two whole numbers. Received: epochs="),
        ({"dropout": "uniform:0"}, "A range must be LOW..HIGH, two numbers. Received: dropout="),
        ({"epochs": "int:3..3"}, "must be finite, the lower one first. Received: epochs=int:3..3."),
        ({"dropout": "uniform:0..inf"}, "The ends of a range must be finite, the lower one first."),
        ({"l2": "log:0..1"}, "A logarithmic range must begin above 0. Received: l2=log:0..1."),
        ({"epochs": "uniform:1..3"}, "epochs takes whole numbers. .* Use int:1..3, or log:1..3."),
        (
            {"hidden": "choice:"},
            "Choices must be distinct and not empty. Received: hidden=choice:.",
        ),
        (
            {"width": "choice:8,16"},
            r"Choices must be separated by \|. Received: width=choice:8,16. Use 'choice:8\|16', in",
        ),
        ({"hidden": "choice:8|8"}, "Choices must be distinct and not empty. Received: hidden="),
        (
            {"dropout": "choice:0.5|0.50"},
            "distinct and not empty. Received: dropout=choice:0.5|0.50.",
        ),
        (
            {"epochs": "layers:1..2x3..4"},
            "layers can only search a list of layers. Received: epochs=",
        ),
        (
            {"seed": "int:1..3"},
            "seed cannot be searched: it decides which data .* Received: seed=int:1..3. Use --set.",
        ),
        ({"validation_split": "uniform:0.1..0.2"}, "measured on. Received: validation_split=unif"),
        ({"dropout": "uniform:0..1.5"}, "dropout must be .* It is searched as uniform:0..1.5."),
        ({"activation": "choice:relu|rlu"}, "Did you mean 'relu'.* It is searched as choice"),
    ],
)
def test_an_impossible_space_is_refused_with_one_line(declared, message):
    with pytest.raises((TuningError, ConfigError), match=message) as caught:
        make_definition("features", declared)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["epochs"], "--search must be KEY=KIND:VALUES. Received: 'epochs'."),
        (
            ["epochs=int:1..2", "epochs=int:3..4"],
            "must name each setting once. Received: epochs twice.",
        ),
    ],
)
def test_a_search_without_values_or_named_twice_is_refused(pairs, message):
    with pytest.raises(TuningError, match=message):
        parse_searches(pairs)


def test_the_largest_number_of_layers_is_checked_before_the_search():
    with pytest.raises(TuningError, match="at most 4 stages.*It is searched as layers:1..9x8..32"):
        make_definition("digits", {"filters": "layers:1..9x8..32"})


MOMENTA = {"optimizer.momentum": "uniform:0.5..0.99"}


@pytest.mark.parametrize(
    ("declared", "settings", "reason"),
    [
        (RATE, {"optimizer.name": "opts.py:sgd"}, "with an optimizer of your own, opts.py:sgd"),
        (MOMENTA, {"optimizer.name": "adam"}, "with optimizer.name=adam: it is for "),
        (MOMENTA | {"optimizer.name": "choice:adam|lion"}, {}, "with optimizer.name=adam: "),
        ({"groups": "int:2..4"}, {"normalization": "batch"}, "with normalization=batch: it is"),
    ],
)
def test_a_search_over_a_setting_without_effect_is_refused(declared, settings, reason):
    definition = make_definition("digits", declared, settings=settings)
    message = f"^A search needs settings that have an effect. Received: .* has no effect {reason}"
    with pytest.raises(TuningError, match=message):
        check_effects(definition)


def test_a_setting_that_has_an_effect_with_a_value_that_is_searched_too_can_be_searched():
    names = {"optimizer.name": "choice:adam|momentum"}
    check_effects(make_definition("digits", MOMENTA | names))
    check_effects(make_definition("digits", MOMENTA, settings={"optimizer.name": "nesterov"}))
    check_effects(make_definition("digits", RATE))


def test_a_setting_is_either_fixed_or_searched():
    with pytest.raises(
        TuningError, match="either fixed or searched. Received: epochs, which is both."
    ):
        make_definition("features", {"epochs": "int:1..3"}, settings={"epochs": 2})


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"method": "tpee"}, "method must be one of grid, .*Did you mean 'tpe'?"),
        ({"method": "bayes"}, "method must be one of grid, .*Received: method='bayes'.$"),
        ({"trials": 2.5}, "trials must be a whole number. Received: trials=2.5."),
        ({"pruning": "no"}, "pruning must be true or false. Received: pruning='no'."),
        ({"trials": 0}, "trials must be from 1 to 1,000,000. Received: trials=0."),
        ({"minutes": 0.0}, "minutes must be above 0 and finite. Received: minutes=0.0."),
        ({"folds": 0}, "folds must be from 1 to 100. Received: folds=0."),
        ({"trails": 3}, r"\[tuning\] can contain method, .*. Received: trails."),
    ],
)
def test_an_impossible_budget_is_refused(budget, message):
    with pytest.raises(TuningError, match=message):
        make_definition("features", RATE, budget)


def test_a_field_in_a_file_must_be_declared_as_text(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("[search]\nepochs = 3\n")
    with pytest.raises(TuningError, match="must be text such as int:1..9. Received: epochs=3."):
        make_definition("features", {}, file=path)


def test_a_grid_fits_into_the_budget_and_has_each_point_once():
    declared = {**RATE, "hidden": "choice:4|8"}
    points = grid(make_definition("features", declared, {"method": "grid", "trials": 9}))
    assert len(points) == 8
    rates = sorted({point["optimizer.learning_rate"] for point in points})
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
    assert len({tuple(point.values()) for point in points}) == 8


def test_a_grid_contains_all_whole_numbers_if_the_budget_allows():
    declared = {"optimizer.decay_epochs": "log:1..10", "epochs": "int:1..3"}
    points = grid(make_definition("features", declared, {"method": "grid", "trials": 40}))
    assert {point["optimizer.decay_epochs"] for point in points} == set(range(1, 11))
    assert len(points) == 30


def test_a_grid_larger_than_the_budget_is_sampled_at_random():
    declared = {"dropout": "uniform:0..0.5", "hidden": "choice:2|4|8|16"}
    points = grid(make_definition("features", declared, {"method": "grid", "trials": 3}))
    assert len(points) == 3


@pytest.mark.parametrize(
    ("declared", "received"),
    [(RATE, "optimizer.learning_rate alone"), ({**RATE, "hidden": "choice:4|8"}, "choice hidden")],
)
def test_cmaes_refuses_what_it_cannot_search(declared, received):
    definition = make_definition("features", declared, {"method": "cmaes"})
    with pytest.raises(TuningError, match=f"cmaes needs two or more ranges.*{received}.*genetic"):
        make_sampler(definition, 0)


def bowl(trial, space):
    """A loss with its lowest point at a rate of 1e-2, 8 units and gelu."""
    trial = {name: trial._suggest(name, each) for name, each in space.items()}
    rate, units = trial["optimizer.learning_rate"], trial["hidden.units"]
    poor = 0.0 if trial["activation"] == "gelu" else 0.5
    return 0.1 + (math.log10(rate) + 2) ** 2 + math.log(units / 8) ** 2 + poor


@pytest.mark.parametrize("method", ["random", "tpe", "gp", "cmaes", "genetic"])
def test_every_method_proposes_values_from_the_space(method):
    declared = {**RATE, "dropout": "uniform:0..0.5"}
    definition = make_definition("features", declared, {"method": method})
    study = optuna.create_study(sampler=make_sampler(definition, 3))
    for number in range(14):
        trial = study.ask(dimensions(definition.space))
        study.tell(trial, 1 + trial.params["dropout"] + number % 3)
    rates = {trial.params["optimizer.learning_rate"] for trial in study.trials}
    assert len(rates) > 10  # children may repeat a value of their parents
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)


def test_the_gaussian_process_beats_chance():
    declared = {**RATE, "hidden": "layers:1..3x2..64", "activation": "choice:relu|tanh|gelu"}
    space = dimensions(make_definition("features", declared).space)
    best = {}
    for name, sampler in {
        "gp": GaussianProcessSampler(space, 0),
        "random": optuna.samplers.RandomSampler(0),
    }.items():
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: bowl(trial, space), n_trials=20)
        best[name] = study.best_value
    assert best["gp"] < best["random"]
    assert best["gp"] < 0.2


def sizes(*scores):
    return [
        {"samples": 100 * 2**n, "train": train, "validation": validation}
        for n, (train, validation) in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "advice"),
    [
        ([(1.0, 0.70), (1.0, 0.80)], "more data"),
        ([(0.80, 0.79), (0.80, 0.79)], "larger model"),
        ([(1.0, 0.80), (1.0, 0.80)], "regularize"),
        ([(1.0, 0.95), (1.0, 0.998)], "perfect"),
        ([(1.0, 0.90), (1.0, 0.99)], "more data"),
    ],
)
def test_sizes_are_diagnosed_as_more_data_or_a_larger_model(scores, advice):
    share = (500 * scores[-1][1] + 1) / 502
    diagnosis = diagnose_sizes(sizes(*scores), "accuracy", 500, (share * (1 - share) / 500) ** 0.5)
    assert diagnosis.advice == advice
    assert "from 100 to 200 samples" in diagnosis.text


def test_advice_has_intervals_and_says_what_it_would_take_to_know_more():
    unsure = diagnose_sizes(sizes((1.0, 0.80), (1.0, 0.81)), "accuracy", 500, 0.0175)
    assert unsure.advice == "regularize"
    assert "+0.1900 [+0.1557, +0.2243] less" in unsure.text
    assert "gained +0.0100 [-0.0385, +0.0585]" in unsure.text
    assert "To show such a gain takes about 11,765 validation samples, not 500." in unsure.text
    assert diagnose_sizes(sizes((1.0, 0.80), (1.0, 0.86)), "accuracy", 500, 0.0175).advice == (
        "more data"
    )


@pytest.mark.parametrize(
    ("losses", "advice"),
    [
        ([0.9, 0.7, 0.5, 0.4], "more epochs"),
        ([0.9, 0.4, 0.401, 0.402], "enough"),
        ([0.9, 0.4, 0.5, 0.6], "fewer epochs"),
        ([0.9], "unknown"),
        ([0.9, 0.0, 0.0], "enough"),
    ],
)
def test_epochs_are_diagnosed_as_too_few_enough_or_too_many(losses, advice):
    assert diagnose_epochs(losses).advice == advice


def test_a_single_training_set_size_has_no_diagnosis():
    assert diagnose_sizes(sizes((1.0, 0.9)), "accuracy", 500, 0.01).advice == "unknown"
