"""A study's README.md, and the page of all studies: what a student reads."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from app.errors import StudyError
from app.reports.html import data_uri, render
from app.system.atomic_files import atomic_write

from .catalogue import LANGUAGES, read_texts
from .study import FAILS, HOLDS, IN_PART, Check, Result

PAGE, README, FIGURE = "index.html", "README.md", "figure.png"
# By language, then by verdict.
_VERDICTS = {
    "en": {HOLDS: HOLDS, IN_PART: IN_PART, FAILS: FAILS},
    "zh": {HOLDS: "成立", IN_PART: "部分成立", FAILS: "不成立"},
}


def write_readme(result: Result) -> None:
    """Write `README.md` into a study's folder."""
    text = render("study.md.j2", study=_described(result))
    atomic_write(result.folder / README, text)


def write_page(results: Sequence[Result], output: Path) -> Path:
    """Write one page of all results, in English and in Chinese, with the figures inside.

    Args:
        results: in the order of the page.
        output: folder of studies.

    Returns:
        The page, which opens from disk.

    Raises:
        StudyError: it cannot be written.
    """
    studies = [
        {**_described(result), "figure": data_uri(result.folder / FIGURE)} for result in results
    ]
    counts = {kind: sum(r.verdict == kind for r in results) for kind in _VERDICTS["en"]}
    page = render("studies.html.j2", studies=studies, counts=counts, verdicts=_VERDICTS)
    # Two commands may write it at once; the last one's stays.
    beside = output / f"{PAGE}.{os.getpid()}"
    try:
        beside.write_text(page, "utf-8")
        return beside.replace(output / PAGE)
    except OSError as error:
        with contextlib.suppress(OSError):  # of a folder that is read-only
            beside.unlink()
        raise StudyError(
            f"The page of studies must be writable. Received: {output / PAGE}: {error.strerror}."
        ) from None


def sentences(name: str, checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return what each check says, by language, its figures in their places."""
    texts = read_texts(name)
    return [
        {language: texts[language].checks[check.name].format(**check.figures) for language in texts}
        for check in checks
    ]


def _described(result: Result) -> dict[str, object]:
    found = sentences(result.name, result.checks)
    return {
        "result": result,
        "texts": read_texts(result.name),
        "verdict": {language: _VERDICTS[language][result.verdict] for language in LANGUAGES},
        "checks": list(zip(result.checks, found, strict=True)),
        "command": _command(result),
    }


def _command(result: Result) -> str:
    """Return what gives the same result again, in whatever folder."""
    quick = " --quick" if result.quick else ""
    return f"hornbill study run {result.name}{quick} --seeds {result.seeds}"
