"""Writes what students read: README.md, page and source code of a study, and the course page."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import StudyError
from app.reports.html import render
from app.system.atomic_files import atomic_write
from serving.errors import cannot_write

from .catalogue import (
    NAMES,
    ClaimText,
    builds_on,
    course_parts,
    course_texts,
    read_texts,
    source_code,
)
from .signs import HOLDS, NOT_SHOWN, REFUTED, SIGNS
from .study import LANGUAGES, Claim, Result, figure_name
from .vocabulary import in_chinese

PAGE, CODE, README = "index.html", "code.html", "README.md"
MARKS = {HOLDS: "✓", NOT_SHOWN: "?", REFUTED: "✗"}
_INTERVAL = re.compile(r"\[[-\d]")  # an estimate without one ends in "[no interval]"
_SPACE = {"en": " ", "zh": ""}  # between sentences
_SIGN_NAMES = {
    "en": {HOLDS: HOLDS, NOT_SHOWN: NOT_SHOWN, REFUTED: REFUTED, "theorem": "theorem"},
    "zh": {HOLDS: "成立", NOT_SHOWN: "未证实", REFUTED: "被否定", "theorem": "定理"},
}


def write_readme(result: Result) -> None:
    """Write `README.md` into a study's folder."""
    text = render("study.md.j2", study=_template_values(result), **_shared())
    atomic_write(result.folder / README, text)


def write_pages(results: Sequence[Result], output: Path, options: str = "") -> Path:
    """Write the page of the course, and for each study its page and one with its source code.

    The pages open from disk, in English and in Chinese.

    Args:
        results: the results, in the order of the course.
        output: folder of studies.
        options: options of the command that the page gives for the other studies, after a space.

    Returns:
        The path of the page of the course.

    Raises:
        StudyError: a page cannot be written.
    """
    ran = {result.name: result for result in results}
    shared = {**_shared(), "ran": ran}
    for name, result in ran.items():
        place = NAMES.index(name)
        study = _template_values(result)
        beside = {"previous": NAMES[place - 1 : place], "next": NAMES[place + 1 : place + 2]}
        _write(result.folder / PAGE, render("study.html.j2", study=study, **beside, **shared))
        path, code = source_code(name)
        values = {"study": study, "path": path, "code": code}
        _write(result.folder / CODE, render("study_code.html.j2", **values, **shared))
    signs = [claim.sign for result in results for claim in result.claims if not claim.is_theorem]
    counts = {sign: signs.count(sign) for sign in SIGNS}
    course = {"course": course_texts(), "parts": course_parts(), "counts": counts}
    page = render("course.html.j2", **course, options=options, **shared)
    return _write(output / PAGE, page)


def _write(path: Path, page: str) -> Path:
    # Two commands may write a page at once: each writes its own file, and the later one wins.
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text(page, "utf-8")
        return new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # in a read-only folder
            new.unlink()
        raise StudyError(cannot_write(path, error)) from None


def _shared() -> dict[str, Any]:
    """Return what all templates need."""
    return {
        "figure_name": figure_name,
        "marks": MARKS,
        "sign_names": _SIGN_NAMES,
        "texts": {name: read_texts(name) for name in NAMES},
        "names": NAMES,
    }


def sentences(name: str, claims: Sequence[Claim]) -> list[dict[str, ClaimText]]:
    """Return the sentences of each claim in each language, with the figures filled in.

    `found` is the sentence that follows the direction of the number.
    """
    texts = read_texts(name)
    return [
        {
            language: _filled(texts[language].claims[claim.name], claim, language)
            for language in LANGUAGES
        }
        for claim in claims
    ]


def _filled(text: ClaimText, claim: Claim, language: str) -> ClaimText:
    figures = claim.figures
    if language == "zh":
        figures = {name: in_chinese(figure) for name, figure in figures.items()}

    def fill(sentence: str) -> str:
        filled = sentence.format(**figures)
        begins_with_name = sentence.startswith("{")
        return filled[:1].upper() + filled[1:] if begins_with_name else filled

    found = text.reversed if claim.is_reversed and text.reversed else text.found
    if claim.is_undecided:
        found = text.undecided
    lessons = {sign: fill(getattr(text, sign)) for sign in ("holds", "not_shown", "refuted")}
    return ClaimText(fill(text.claim), fill(found), **lessons)


def _takeaway(
    language: str, claims: Sequence[Claim], found: Sequence[Mapping[str, ClaimText]], always: str
) -> str:
    """Return what follows from the signs of the claims, and then what is always true."""
    lessons = [
        getattr(texts[language], claim.sign.replace(" ", "_"))
        for claim, texts in zip(claims, found, strict=True)
    ]
    return _SPACE[language].join(filter(None, [*lessons, always]))


def _template_values(result: Result) -> dict[str, Any]:
    texts = read_texts(result.name)
    found = sentences(result.name, result.claims)
    takeaway = {
        language: _takeaway(language, result.claims, found, texts[language].takeaway)
        for language in LANGUAGES
    }
    figures = [figure for claim in result.claims for figure in claim.figures.values()]
    return {
        "result": result,
        "has_intervals": any(map(_INTERVAL.search, figures)),
        "texts": texts,
        "claims": list(zip(result.claims, found, strict=True)),
        "takeaway": takeaway,
        "builds_on": builds_on(result.name),
        "command": _command(result),
        "code_path": source_code(result.name)[0],
    }


def _command(result: Result) -> str:
    """Return the command that reproduces the result in any folder."""
    quick = " --quick" if result.quick else ""
    return f"hornbill study run {result.name}{quick} --seeds {result.seeds}"
