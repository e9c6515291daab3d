"""Writes the pages for students: the README.md of a study, and one page of all studies."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from app.errors import StudyError
from app.reports.html import data_uri, render
from app.system.atomic_files import atomic_write
from serving.errors import cannot_write

from .catalogue import LANGUAGES, read_texts
from .study import FAILS, HOLDS, IN_PART, Check, Result

PAGE, README, FIGURE = "index.html", "README.md", "figure.png"
_VERDICTS = {
    "en": {HOLDS: HOLDS, IN_PART: IN_PART, FAILS: FAILS},
    "zh": {HOLDS: "成立", IN_PART: "部分成立", FAILS: "不成立"},
}


def write_readme(result: Result) -> None:
    """Write `README.md` into a study's folder."""
    text = render("study.md.j2", study=_template_values(result))
    atomic_write(result.folder / README, text)


def write_page(results: Sequence[Result], output: Path) -> Path:
    """Write one page of all results, in English and in Chinese, with the figures embedded.

    Args:
        results: the results in the order of the page.
        output: folder of studies.

    Returns:
        The path of the page, which a browser opens from disk.

    Raises:
        StudyError: the page cannot be written.
    """
    studies = [
        {**_template_values(result), "figure": data_uri(result.folder / FIGURE)}
        for result in results
    ]
    counts = {kind: sum(r.verdict == kind for r in results) for kind in _VERDICTS["en"]}
    page = render("studies.html.j2", studies=studies, counts=counts, verdicts=_VERDICTS)
    # Two commands may write the page at once: each writes its own file, and the later one wins.
    new = output / f"{PAGE}.{os.getpid()}"
    try:
        new.write_text(page, "utf-8")
        return new.replace(output / PAGE)
    except OSError as error:
        with contextlib.suppress(OSError):  # in a read-only folder
            new.unlink()
        raise StudyError(cannot_write(output / PAGE, error)) from None


def sentences(name: str, checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return the sentence of each check in each language, with the figures filled in."""
    texts = read_texts(name)
    return [
        {language: texts[language].checks[check.name].format(**check.figures) for language in texts}
        for check in checks
    ]


def _template_values(result: Result) -> dict[str, object]:
    found = sentences(result.name, result.checks)
    return {
        "result": result,
        "texts": read_texts(result.name),
        "verdict": {language: _VERDICTS[language][result.verdict] for language in LANGUAGES},
        "checks": list(zip(result.checks, found, strict=True)),
        "command": _command(result),
    }


def _command(result: Result) -> str:
    """Return the command that reproduces the result in any folder."""
    quick = " --quick" if result.quick else ""
    return f"hornbill study run {result.name}{quick} --seeds {result.seeds}"
