"""Writes docs/benchmarks.md and prints README's headline table."""

from pathlib import Path

from .page import headline_table, page

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    """Write the page and print the table."""
    PAGE.write_text(page(), "utf-8")
    print(headline_table())


if __name__ == "__main__":
    main()
