"""The words of figures and figures in sentences, in Chinese."""

import re
import tomllib
from functools import cache
from pathlib import Path

WORDS = Path(__file__).parent / "vocabulary.toml"


@cache
def chinese_words() -> dict[str, str]:
    """Return the Chinese phrases by the English ones."""
    words: dict[str, str] = tomllib.loads(WORDS.read_text("utf-8"))
    return words


def in_chinese(label: str) -> str:
    """Return a label with every known phrase in Chinese; the rest, such as names, stays."""
    label = " ".join(label.split())
    return _pattern().sub(lambda found: chinese_words()[found.group()], label)


@cache
def _pattern() -> re.Pattern[str]:
    longest_first = sorted(map(re.escape, chinese_words()), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)")
