"""The studies by name, and their texts. Keras is imported only when a study is loaded."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from app.errors import StudyError

from .study import LANGUAGES, Study

_FOLDER = Path(__file__).parent
_TEXTS = _FOLDER / "texts"
_COURSE = tomllib.loads((_FOLDER / "course.toml").read_text("utf-8"))
# In the order of the course: the later ones build on the earlier ones, and take longer.
NAMES: tuple[str, ...] = tuple(name for part in _COURSE["parts"] for name in part["studies"])


@dataclass(frozen=True)
class ClaimText:
    """The sentences of a claim in one language, with placeholders for its figures.

    Attributes:
        claim: the statement.
        found: what was measured.
        reversed: the same if the number points the other way; empty if it cannot.
        undecided: the same if the number is not enough to name a direction; empty if it always is.
        holds, not_shown, refuted: what to take from it, by its sign; empty for nothing.
    """

    claim: str
    found: str
    reversed: str = ""
    undecided: str = ""
    holds: str = ""
    not_shown: str = ""
    refuted: str = ""


@dataclass(frozen=True)
class Text:
    """The text of a study in one language.

    Attributes:
        title: title, a few words long.
        idea: the idea in one sentence.
        method: what was done.
        takeaway: what is true whatever the numbers say. What follows from them is in the claims.
        caption: caption of the figure.
        claims: the sentences of each claim.
    """

    title: str
    idea: str
    method: str
    takeaway: str
    caption: str
    claims: Mapping[str, ClaimText]


@dataclass(frozen=True)
class CoursePart:
    """A part of the course.

    Attributes:
        title: title in each language.
        studies: names of its studies.
    """

    title: Mapping[str, str]
    studies: tuple[str, ...]


def course_texts() -> dict[str, Any]:
    """Return title and introduction of the course in each language, and the words it explains.

    Returns:
        `title` and `intro` by language under `en` and `zh`; `words` is a list of dicts with a pair
        of word and explanation in each language.
    """
    return {key: _COURSE[key] for key in (*LANGUAGES, "words")}


def course_parts() -> list[CoursePart]:
    """Return the parts of the course in their order."""
    return [
        CoursePart({language: part[language] for language in LANGUAGES}, tuple(part["studies"]))
        for part in _COURSE["parts"]
    ]


def builds_on(name: str) -> tuple[str, ...]:
    """Return the studies that a study builds on."""
    return tuple(_read(name)["builds_on"])


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
    tables = _read(name)
    return {
        language: Text(
            **tables[language],
            claims={
                claim: ClaimText(**sentences[language])
                for claim, sentences in tables["claims"].items()
            },
        )
        for language in LANGUAGES
    }


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_TEXTS / f"{name}.toml").read_text("utf-8"))


def source_code(name: str) -> tuple[str, str]:
    """Return the path of the module that holds a study, in the repository, and its source code."""
    path = _FOLDER / "claims" / f"{name.replace('-', '_')}.py"
    return path.relative_to(_FOLDER.parents[1]).as_posix(), path.read_text("utf-8")


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
