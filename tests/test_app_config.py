"""Settings: from text and TOML to checked dataclasses, and back."""

import contextlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.families import family_named
from app.config.run_config import (
    DECIDED_BY_DATA,
    combine_settings,
    config_toml,
    flat_config,
    make_config,
    parse_settings,
)
from app.config.without_effect import settings_without_effect
from app.errors import ConfigError


def test_settings_reach_the_model_and_the_training():
    texts = ["variant=mlp", "hidden=64,32", "optimizer.learning_rate=1e-3", "epochs=7"]
    config = make_config("digits", parse_settings(texts), seed=5)
    assert (config.model.variant, config.model.hidden) == ("mlp", (64, 32))
    assert (config.training.optimizer.learning_rate, config.training.epochs) == (1e-3, 7)
    assert (config.seed, config.data) == (5, "digits8x8")


@pytest.mark.parametrize(
    ("name", "default"), [("adamw", 0.004), ("muon", 0.004), ("lamb", 0.0), ("lion", 0.0)]
)
def test_the_weight_decay_of_an_optimizer_is_by_default_that_of_keras(name, default):
    settings = {"optimizer.name": name}
    assert make_config("softmax", settings).training.optimizer.weight_decay == default
    settings["optimizer.weight_decay"] = 0.1
    assert make_config("softmax", settings).training.optimizer.weight_decay == 0.1


def test_a_single_number_is_a_list_with_one_layer():
    assert make_config("digits", parse_settings(["hidden=128"])).model.hidden == (128,)


@given(
    st.sampled_from(["-999.00", "1.50", "2024-01-01", "true", "007", "1_0", "inf", "nan", "1e5"])
    | st.from_regex(r"[0-9a-zA-Z.:+_-]+", fullmatch=True)
)
def test_a_setting_of_text_is_kept_as_typed(text):
    settings = parse_settings(
        [f"missing={text}", f"drop={text}", f"image_column={text}", f"freeze={text}"]
    )
    assert settings["freeze"] == text
    del settings["freeze"]
    reading = make_config("features", settings).reading
    assert (reading.missing, reading.drop, reading.image_column) == ((text,), (text,), text)
    assert make_config("features", parse_settings([f"target={text}"])).reading.target == (text,)


def test_text_may_be_quoted_and_listed_as_in_toml():
    settings = parse_settings(['target="a,b"', 'drop=["1.50", "c"]', "keep=2.50, true"])
    reading = make_config("features", settings).reading
    assert (reading.target, reading.drop) == (("a,b",), ("1.50", "c"))
    assert reading.keep == ("2.50", "true")


def test_nothing_is_an_empty_list():
    for none in ("hidden=", "hidden=[]"):
        assert make_config("features", parse_settings([none])).model.hidden == ()


@pytest.mark.parametrize("family", ["digits", "softmax", "features"])
def test_a_run_can_be_repeated_from_its_config_file(family, tmp_path):
    config = make_config(family, {"epochs": 3, "optimizer.name": "momentum"}, data="wine", seed=9)
    path = tmp_path / "config.toml"
    path.write_text(config_toml(config))
    assert combine_settings(None, path) == config


def test_the_config_file_is_complete():
    written = tomllib.loads(config_toml(make_config("digits")))
    assert written["optimizer"]["name"] == "adam"
    assert written["augmentation"]["rotation"] == 0
    keys = ["family", "data", "seed", "target", "variant", "hidden", "loss", "patience"]
    assert set(keys) <= written.keys()
    assert not set(DECIDED_BY_DATA) & flat_config(make_config("features")).keys()
    assert "augmentation.shift" not in flat_config(make_config("softmax"))


def test_the_command_line_overrides_the_file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('epochs = 3\nbatch_size = 8\ndata = "wine"\nseed = 4\n')
    config = combine_settings("softmax", path, {"epochs": 5}, None, 1)
    assert (config.training.epochs, config.training.batch_size) == (5, 8)
    assert (config.data, config.seed) == ("wine", 1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", "'epoch' is not a setting of digits. Did you mean 'epochs'"),
        ("optimizer.learning_rte=3", "Did you mean 'optimizer.learning_rate'"),
        ("num_classes=3", "'num_classes' is not a setting"),
        ("epochs=three", "epochs must be a whole number. Received: epochs='three'"),
        ("epochs=2.5", "epochs must be a whole number. Received: epochs=2.5"),
        ("epochs=0", "epochs must be from 1 to 1,000,000. Received: epochs=0"),
        ("batch_size=-1", "batch_size must be at least 1"),
        ("loss=crossentropy", "loss must be one of .*Did you mean 'cross_entropy'"),
        ("optimizer.name=adm", "optimizer.name must be one of .*Did you mean 'adam'"),
        ("optimizer.schedule=cosin", "optimizer.schedule must be one of .*'cosine'"),
        ("optimizer.learning_rate=0", "learning_rate must be above 0"),
        ("optimizer.learning_rate=nan", "learning_rate must be above 0"),
        ("optimizer.momentum=1", "optimizer.momentum must be at least 0 and below 1"),
        ("optimizer.decay_rate=1", "optimizer.decay_rate must be above 0 and below 1"),
        ("optimizer.decay_rate=0", "optimizer.decay_rate must be above 0"),
        ("optimizer.clip_norm=inf", "optimizer.clip_norm must be finite. Received: .*=inf"),
        ("epochs=99999999999999999999", "epochs must be from 1 to 1,000,000"),
        ("epochs=nan", "epochs must be finite. Received: epochs=nan"),
        ("train_sizes=0.5,0.1,0.5", "train_sizes must name each fraction once"),
        ("optimizer.clip_norm=-1", "optimizer.clip_norm must be at least 0"),
        ("augmentation.rotatoin=3", "Did you mean 'augmentation.rotation'"),
        ("augmentation.rotation=300", "augmentation.rotation must be from 0 to 180"),
        ("activation=prellu", "activation must be one of .*Did you mean 'prelu'"),
        ("normalization=instanc", "normalization must be one of .*Did you mean 'instance'"),
        ("class_weight=balance", "class_weight must be one of none, balanced"),
        ("class_weight=3", "class_weight must be one of none, balanced. Received: class_weight=3"),
        ("precision=float16", "precision must be one of auto, float32"),
        ("validation_split=0", "validation_split must be above 0"),
        ("patience=-1", "patience must be at least 0"),
        ("unreadable=drop", "unreadable must be one of refuse, skip"),
        ("hidden=64,x", "hidden must be whole numbers. Received: hidden='x'"),
        ("optimizer=adam", "'optimizer' is not a setting"),
        (
            "learning_rate=1",
            "'learning_rate' is not a setting of digits. Did you mean 'optimizer.l",
        ),
        ("head=linear", "'head' is not a setting of digits. It is a setting of features."),
        ("hidden=64,,32", "hidden must be whole numbers. Received: hidden=''"),
        ("epochs=", "epochs must be a whole number. Received: epochs=''"),
        ("dropout=much", "dropout must be a number. Received: dropout='much'"),
        (
            "validation_split=0",
            "validation_split must be above 0 and below 1. Received: validation_split=0.0",
        ),
        (
            "validation_split=1",
            "validation_split must be above 0 and below 1. Received: validation_split=1.0",
        ),
        ("target=a,b,a", "target must name each column once. Received: target=a,b,a"),
        ("epochs=true", "epochs must not be true or false"),
        (
            "optimizer.learning_rate=abc",
            "optimizer.learning_rate must be a number. Received: .*'abc'",
        ),
        ("epochs", "A setting must be key=value. Received: 'epochs'"),
        ("=3", "A setting must be key=value"),
    ],
)
def test_an_error_names_the_wrong_setting_and_what_would_be_right(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_config("digits", parse_settings([setting]))


@pytest.mark.parametrize(
    ("setting", "new"),
    [
        ("passes=2", "passes is now repeat"),
        ("keep=best", "keep=best is now restore_best_weights=true"),
        ("keep=last", "keep=last is now restore_best_weights=false"),
        ("xla=on", "xla=on is now xla=true"),
        ("residual=off", "residual=off is now residual=false"),
        ("averaging=0.9", "averaging is now optimizer.ema_momentum"),
        ("optimizer.averaging=0.9", "optimizer.averaging is now optimizer.ema_momentum"),
        ("optimizer.every=3", "optimizer.every is now optimizer.decay_epochs"),
        ("optimizer.factor=0.5", "optimizer.factor is now optimizer.decay_rate"),
        ("validation=0.2", "validation is now validation_split"),
        ("class_weights=balanced", "class_weights is now class_weight"),
        ("training_shares=0.1,0.3", "training_shares is now train_sizes"),
    ],
)
def test_an_old_setting_name_is_refused_with_the_new_name(setting, new, tmp_path):
    old, _, value = setting.partition("=")
    with pytest.raises(ConfigError, match=f"^Some settings have changed: {new}.$"):
        make_config("features", parse_settings([setting]))
    file = tmp_path / "config.toml"
    file.write_text(f'{old} = "{value}"\nbatch_sise = 3\nevery = 3\n')
    changes = f"{new}; every is now optimizer.decay_epochs"
    with pytest.raises(ConfigError, match=f"^Some settings in {file} have changed: {changes}.$"):
        combine_settings("features", file)


@pytest.mark.parametrize("setting", ["xla=yes", "residual=1x", "restore_best_weights=best"])
def test_a_boolean_setting_must_be_true_or_false(setting):
    key, _, value = setting.partition("=")
    message = f"{key} must be true or false. Received: {key}={value!r}."
    with pytest.raises(ConfigError, match=message):
        make_config("features", parse_settings([setting]))
    for true in ("true", "True"):
        config = make_config("features", parse_settings([f"{key}={true}", "figures=false"]))
        assert flat_config(config)[key] is True
    assert config.figures is False
    with pytest.raises(ConfigError, match="figures must be true or false. Received: figures='off'"):
        make_config("features", parse_settings(["figures=off"]))


@pytest.mark.parametrize("seed", [-1, 2**32, True, 1.5, "1"])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match="seed must be a whole number from 0"):
        make_config("digits", seed=seed)


def test_numpy_values_paths_and_nested_tables_are_accepted():
    settings = {"hidden": np.array([8, 4]), "optimizer": {"learning_rate": np.float32(0.5)}}
    config = make_config("digits", settings, data=Path("own.npz"), seed=np.int64(3))
    assert (config.data, config.seed, config.model.hidden) == ("own.npz", 3, (8, 4))
    assert config.training.optimizer.learning_rate == 0.5
    with pytest.raises(
        ConfigError, match="data must be text or a DataFrame, arrays .* Received: data=3"
    ):
        make_config("digits", data=3)


def test_seed_and_data_can_be_given_as_settings():
    config = combine_settings("softmax", settings=parse_settings(["seed=3", "data=wine"]))
    assert (config.seed, config.data) == (3, "wine")
    assert combine_settings("softmax", settings={"seed": 3}, seed=4).seed == 4


def test_a_family_must_be_a_name(tmp_path):
    (tmp_path / "config.toml").write_text('family = ["digits"]\n')
    with pytest.raises(ConfigError, match="family must be one of digits, "):
        combine_settings(None, tmp_path / "config.toml")


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="family must be one of .*Did you mean 'digits'"):
        make_config("digit")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "cannot be read as TOML: "),
        ('family = "softmax"', "must be for the family 'digits'. Received: family='softmax'"),
        ('seed = "a"', "seed must be .*seed='a'"),
        ("epoch = 3", "'epoch' is not a setting"),
    ],
)
def test_a_wrong_config_file_is_refused(text, message, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        combine_settings("digits", path)


def test_a_missing_config_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="none.toml does not exist."):
        combine_settings("digits", tmp_path / "none.toml")


@given(st.lists(st.text()))
def test_any_text_is_read_as_a_setting_or_refused(texts):
    with contextlib.suppress(ConfigError):
        assert make_config("digits", parse_settings(texts)).family == "digits"


@given(st.floats(1e-6, 10), st.integers(1, 9), st.lists(st.integers(1, 99), min_size=1))
def test_a_written_configuration_is_read_back_unchanged(learning_rate, epochs, hidden):
    texts = [
        f"optimizer.learning_rate={learning_rate!r}",
        f"epochs={epochs}",
        f"hidden={','.join(map(str, hidden))}",
    ]
    config = make_config("digits", parse_settings(texts))
    assert config.training.optimizer.learning_rate == learning_rate
    assert config.model.hidden == tuple(hidden)
    assert tomllib.loads(config_toml(config))["epochs"] == epochs


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("nets/my_net.py:build", "my_net"),
        ("__main__:build", "build"),
        ("__main__:<lambda>", "lambda"),
        ("__main__:make.<locals>.build#3", "build"),
        ("models/my.keras", "my"),
    ],
)
def test_a_run_of_an_own_model_has_a_folder_that_a_shell_takes(family, name):
    assert family_named(family).short_name == name


@pytest.mark.parametrize(
    ("family", "settings", "sentence"),
    [
        (
            "softmax",
            {"optimizer.name": "sgd", "optimizer.momentum": 0.95},
            "optimizer.momentum=0.95 has no effect with optimizer.name=sgd: it is for "
            "optimizer.name=momentum|nesterov|muon.",
        ),
        (
            "digits",
            {"optimizer.schedule": "constant", "optimizer.warmup": 0.2},
            "optimizer.warmup=0.2 has no effect with optimizer.schedule=constant: it is for "
            "optimizer.schedule=cosine.",
        ),
        (
            "digits",
            {"variant": "mlp", "depth": 21},
            "depth=21 has no effect with variant=mlp: it is for variant=resnet.",
        ),
        (
            "features",
            {"backbone": "MobileNetV2", "width": 64},
            "width=64 has no effect with backbone=MobileNetV2: it is for backbone=residual.",
        ),
        (
            "softmax",
            {"optimizer.name": "gradient_descent", "batch_size": 32},
            "batch_size=32 has no effect with optimizer.name=gradient_descent: it is for "
            "optimizer.name=sgd|momentum|nesterov|adagrad|rmsprop|adam|adamw|nadam|adamax|adafactor"
            "|lamb|lion|muon.",
        ),
        (
            "digits",
            {"validation_window": 5, "patience": 3},
            "validation_window=5 has no effect with restore_best_weights=false: it is for "
            "restore_best_weights=true.",
        ),
        (
            "features",
            {"clip_values": True, "head": "sigmoid"},
            "clip_values=true has no effect with head=sigmoid: it is for head=linear.",
        ),
        (
            "features",
            {"backbone_rate": 0.5, "backbone": "MobileNetV2"},
            "backbone_rate=0.5 has no effect with backbone=MobileNetV2, weights=random, "
            "freeze=none: it is for a backbone that was trained before and learns on.",
        ),
        (
            "features",
            {
                "backbone_rate": 0.5,
                "backbone": "MobileNetV2",
                "weights": "imagenet",
                "freeze": "all",
            },
            "backbone_rate=0.5 has no effect with backbone=MobileNetV2, weights=imagenet, "
            "freeze=all: it is for a backbone that was trained before and learns on.",
        ),
    ],
)
def test_a_setting_without_effect_has_a_sentence(family, settings, sentence):
    assert settings_without_effect(make_config(family, settings)) == [sentence]


def test_images_are_mixed_with_others_of_their_batch():
    settings = {"batch_size": 1, "augmentation.cutmix": 1.0}
    with pytest.raises(ConfigError, match="cutmix mixes .* at least 2. Received: batch_size=1."):
        make_config("features", settings)


def test_settings_with_an_effect_and_whole_files_of_defaults_are_not_told():
    used = {"optimizer.name": "muon", "optimizer.momentum": 0.95, "width": 64, "depth": 2}
    assert not settings_without_effect(make_config("features", used))
    used = {"backbone": "MobileNetV2", "weights": "imagenet", "backbone_rate": 0.5, "freeze": "9"}
    used |= {"head": "linear", "clip_values": True, "batch_size": 16, "validation_window": 3}
    used |= {"restore_best_weights": True}
    assert not settings_without_effect(make_config("features", used))
    for family in ("digits", "softmax", "features"):
        complete = flat_config(make_config(family))
        settings = {key: complete[key] for key in complete if key not in ("family", "data", "seed")}
        assert not settings_without_effect(make_config(family, settings))
