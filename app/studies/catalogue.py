"""The studies by name, and their texts. Keras is imported only when a study is loaded."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from app.errors import StudyError

from .study import Study

_TEXTS = Path(__file__).parent / "texts"
LANGUAGES = ("en", "zh")
# In the order in which a student should read them.
NAMES = (
    "trapezoid",
    "softmax",
    "linear-stack",
    "depth-or-width",
    "worked-example",
    "xor-limit",
    "gates",
    "eight-states",
    "no-structure",
    "vanishing",
    "dead-relu",
    "initialization",
    "losses",
    "regularization",
    "optimizers",
    "very-deep",
    "abstraction",
    "ink",
)


@dataclass(frozen=True)
class Text:
    """The text of a study in one language.

    Attributes:
        title: title, a few words long.
        claim: the claim in one sentence.
        method: what was done.
        reading: what a student can learn from the study, whatever the verdict.
        caption: caption of the figure.
        checks: a sentence for each check, with placeholders for its figures.
    """

    title: str
    claim: str
    method: str
    reading: str
    caption: str
    checks: Mapping[str, str]


def check_name(name: str) -> None:
    """Raise `StudyError` with a suggestion unless `name` is a study."""
    if name not in NAMES:
        # `models.checks.suggest` would import Keras.
        prefixed = [known for known in NAMES if name and known.startswith(name.lower())]
        close = prefixed or difflib.get_close_matches(name.lower(), NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise StudyError(f"A study must be one of {', '.join(NAMES)}. Received: {name!r}.{hint}")


def read_texts(name: str) -> dict[str, Text]:
    """Return the text of a study in each language."""
    tables = tomllib.loads((_TEXTS / f"{name}.toml").read_text("utf-8"))
    return {
        language: Text(
            **{key: " ".join(value.split()) for key, value in tables[language].items()},
            checks={check: tables["checks"][check][language] for check in tables["checks"]},
        )
        for language in LANGUAGES
    }


def module_name(name: str) -> str:
    """Return the name of the module that holds a study."""
    return f"{__package__}.claims.{name.replace('-', '_')}"


def load_study(name: str) -> Study:
    """Import and return a study.

    Raises:
        StudyError: no study has that name.
    """
    check_name(name)
    study: Study = import_module(module_name(name)).STUDY
    return study
