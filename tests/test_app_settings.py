"""`hornbill settings`: every setting with its default, values and meaning, from the dataclasses."""

import json
import re
from pathlib import Path

import pytest

from app.config.choice_rules import CHOICE_RULES
from app.config.chosen_defaults import choose_defaults
from app.config.run_config import flat_config, make_config
from app.config.settings import describe_settings
from app.errors import ConfigError
from models.config.limits import OneOf, limits_of

ROOT = Path(__file__).parent.parent
FAMILIES = ("digits", "softmax", "features")
PAGES = "".join((ROOT / "docs" / f"{n}.md").read_text() for n in ("training", "tables", "images"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_is_listed_with_its_default_values_and_meaning(family):
    found = {setting.key: setting for setting in describe_settings(family)}
    defaults = flat_config(make_config(family))
    assert {key: setting.default for key, setting in found.items()} == {
        key: value for key, value in defaults.items() if key != "family"
    }
    assert all(setting.values and setting.meaning for setting in found.values())


def test_meanings_name_no_code():
    settings = [setting for family in FAMILIES for setting in describe_settings(family)]
    named = {name for each in settings for name in re.findall(r"`([\w.]+)`", each.meaning)}
    values = {word for each in settings for word in re.findall(r"\w+", f"{each.key} {each.values}")}
    modules = [path for package in ("app", "models") for path in (ROOT / package).rglob("*.py")]
    code = "".join(path.read_text() for path in modules)
    defined = set(re.findall(r"^ *(?:def|class) (\w+)", code, re.MULTILINE))
    assert not {n for n in named - values if n.split(".")[-1] in defined or n.isupper()}


def test_the_values_that_are_listed_are_those_that_are_accepted():
    for family in FAMILIES:
        for setting in describe_settings(family):
            if setting.values.startswith("from "):
                low, high = (
                    number.replace(",", "")
                    for number in setting.values.removeprefix("from ").split(" to ")
                )
                if setting.key == "seed":
                    continue
                for number in (low, high):
                    make_config(family, {setting.key: number})
                with pytest.raises(ConfigError, match=f"{setting.key} must be {setting.values}"):
                    make_config(family, {setting.key: int(high) + 1})


def test_the_pages_name_every_value_of_a_choice():
    configs = [make_config(family) for family in FAMILIES]
    parts = [part for c in configs for part in (c.reading, c.model, c.training)]
    parts += [config.training.optimizer for config in configs]
    choices = [
        name
        for part in parts
        for limit in limits_of(type(part)).values()
        if isinstance(limit, OneOf)
        for name in limit.names
    ]
    assert [name for name in dict.fromkeys(choices) if not re.search(f"[`=]{name}`", PAGES)] == []


SITUATIONS = [
    ({}, 500, (10,)),
    ({"head": "linear"}, 500, (10,)),
    ({"hidden": []}, 500, (10,)),
    ({"backbone": "x.keras"}, 500, (10,)),
    ({}, 500, (32, 32, 3)),
    ({"backbone": "ResNet50", "weights": "imagenet"}, 500, (32, 32, 3)),
    ({"backbone": "ResNet50", "weights": "imagenet", "freeze": "all"}, 500, (32, 32, 3)),
]


def test_the_rules_name_the_settings_that_are_chosen_from_the_data():
    configs = [choose_defaults(make_config("features", given), n, s) for given, n, s in SITUATIONS]
    assert set().union(*(config.chosen for config in configs)) == set(CHOICE_RULES)


def test_rules_state_the_numbers_that_are_chosen():
    rules = {setting.key: setting.chosen for setting in describe_settings("features")}
    for samples in (500, 3_000, 30_000):
        config = choose_defaults(make_config("features"), samples, (10,))
        for key in ("batch_size", "optimizer.learning_rate", "num_bins"):
            assert f"{flat_config(config)[key]:g}" in rules[key]
    assert describe_settings("softmax")[5].chosen == ""


def test_the_command_lists_settings_and_a_word_selects_some(run):
    status, output, error = run("settings", "digits", "optimizer", "epochs")
    assert (status, error) == (0, "")
    assert "  optimizer.learning_rate = 0.003\n" in output
    assert "Values: from 1 to 1,000,000.\n" in output
    assert "batch_size" not in output
    status, output, _ = run("settings", "features", "--json")
    found = json.loads(output)
    assert found["family"] == "features"
    assert {"key", "default", "values", "meaning", "chosen", "group"} == found["settings"][0].keys()


def test_an_unknown_family_or_word_is_an_error(run):
    assert "Did you mean 'digits'" in run("settings", "digit")[2]
    assert (
        "A word must be part of a key. Received: nothing."
        in run("settings", "digits", "nothing")[2]
    )


def test_the_help_of_train_points_to_the_settings(run):
    assert "hornbill settings FAMILY" in " ".join(
        run("train", "--help")[1].replace("│", " ").split()
    )
