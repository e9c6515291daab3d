"""The registry of model families: their names, defaults and builders."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from app.errors import ConfigError, DataError
from app.system.user_code import (
    absolute_reference,
    bare_reference,
    check_reference,
    has_module,
    is_reference,
    reference_to,
)
from models import DigitNetConfig, FeatureExtractorConfig, SoftmaxClassifierConfig
from models.config import OwnModelConfig
from models.config.features import MODEL_SUFFIX
from models.errors import BackboneError, OwnModelError

from .training_config import (
    DigitTrainingConfig,
    FeatureTrainingConfig,
    OptimizerConfig,
    TrainingConfig,
)

ModelConfig = DigitNetConfig | FeatureExtractorConfig | SoftmaxClassifierConfig | OwnModelConfig


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: name on the command line; of a user's model a reference to the function that builds
            it, or the path of its `.keras` file.
        source: default data source; empty for none.
        model: default configuration of the model.
        training: default configuration of the training.
        builder: function that builds the model of a configuration, `module:name`.
        takes: kinds of input that the model accepts: `rows`, `images`, `arrays`.
    """

    name: str
    source: str
    model: ModelConfig
    training: TrainingConfig
    builder: str
    takes: tuple[str, ...]

    @property
    def build(self) -> Callable[..., Any]:
        """The function that builds the `keras.Model` of a configuration. It imports Keras."""
        function: Callable[..., Any] = resolve_name(self.builder)
        return function

    @property
    def short_name(self) -> str:
        """The name for folders, such as `my_net` for `nets/my_net.py:build`."""
        if not is_own_model(self.name):
            return self.name
        place, _, function = bare_reference(self.name).rpartition(":")
        if not place:
            return Path(self.name).stem
        module = place.removesuffix(".py").rpartition(".")[2]
        if not module.startswith("__"):
            return module
        name = function.partition("#")[0].rpartition(".")[2]  # `<lambda>` of a function
        return re.sub(r"\W", "", name)

    @property
    def builder_name(self) -> str:
        """The name of the function that builds the model, without folders."""
        if not is_own_model(self.name):
            return self.builder.rpartition(":")[2]
        return bare_reference(self.name) if is_reference(self.name) else Path(self.name).name

    def check_file(self, data: Any) -> None:
        """Require the file and the name of a user's model, and data for it. Nothing is imported.

        Raises:
            ConfigError: there is none.
        """
        if not is_own_model(self.name):
            return
        place = self.name.rpartition(":")[0]
        if not is_reference(self.name):
            if not Path(self.name).is_file():
                raise ConfigError(
                    f"The model must be in a file that exists. Received: {self.name}."
                )
        elif place.endswith(".py"):
            check_reference(self.name, "The model")
        elif not has_module(place):
            raise ConfigError(
                f"The model must be in a module that can be imported. Received: {place}, which is "
                f"neither installed nor in {Path.cwd()}."
            )
        if isinstance(data, str) and not data:
            raise ConfigError(
                f"A model of your own needs data, with --data or data=…. Received: none for "
                f"{self.name}."
            )

    def check_kind(self, kind: str, source: str) -> None:
        """Require that the model accepts a kind of input.

        Args:
            kind: `rows` or `images`.
            source: name of the data source.

        Raises:
            DataError: it does not.
        """
        if kind not in self.takes:
            is_head = self.name == "softmax"
            head = ", or a head on the features of a model of images: --on-features MODEL"
            raise DataError(
                f"The family {self.name!r} takes {' or '.join(self.takes)}. "
                f"Received: {source}, which holds {kind}. "
                f"Use the family 'features'{head if is_head else ''}."
            )


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="digits",
            source="digits8x8",
            model=DigitNetConfig(),
            training=DigitTrainingConfig(epochs=20, batch_size=64),
            builder="models.digits:digit_net",
            takes=("images",),
        ),
        Family(
            name="softmax",
            source="iris",
            model=SoftmaxClassifierConfig(),
            training=TrainingConfig(
                epochs=20, repeat=5, batch_size=16, optimizer=OptimizerConfig(learning_rate=0.03)
            ),
            builder="models.softmax:softmax_classifier",
            takes=("rows",),
        ),
        Family(
            name="features",
            source="iris",
            model=FeatureExtractorConfig(),
            training=FeatureTrainingConfig(epochs=60, batch_size=16),
            builder="models.features:feature_extractor",
            takes=("rows", "images"),
        ),
    )
}


def is_own_model(family: str) -> bool:
    """Return whether a family is a user's model: `file.py:name`, `module:name` or a `.keras`."""
    return is_reference(family) or family.endswith(MODEL_SUFFIX)


def family_name(model: Any) -> Any:
    """Return the name of the family that a value stands for.

    Args:
        model: name of a family; a reference to a function or the path of a `.keras` file, which
            become absolute; or the function, or a `keras.Model`, itself.
    """
    if isinstance(model, str | Path):
        text = str(model)
        is_file = text.endswith(MODEL_SUFFIX)
        return str(Path(text).absolute()) if is_file else absolute_reference(text)
    return reference_to(model) if callable(model) else repr(model)


def family_named(name: str) -> Family:
    """Return a family of `FAMILIES`, or that of a user's model.

    Raises:
        KeyError: the name is neither.
    """
    if name in FAMILIES or not is_own_model(name):
        return FAMILIES[name]
    return Family(
        name=name,
        source="",
        model=OwnModelConfig(),
        training=TrainingConfig(),
        builder="models.own:load_own_model",
        takes=("rows", "images", "arrays"),
    )


def build_model(family: str, config: ModelConfig) -> Any:
    """Return a new `keras.Model` of a family.

    Raises:
        ConfigError: the backbone cannot be built.
    """
    try:
        return family_named(family).build(config)
    except (BackboneError, OwnModelError) as error:
        raise ConfigError(str(error)) from None


def task_of(config: ModelConfig) -> str:
    """Return the task of the model's head: `multiclass`, `multilabel` or `regression`.

    A sigmoid head counts as `multilabel`, although it can also separate two classes.
    """
    head = getattr(config, "head", "softmax")
    return {"softmax": "multiclass", "sigmoid": "multilabel", "linear": "regression"}[head]
