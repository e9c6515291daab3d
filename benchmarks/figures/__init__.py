"""Turns the files in benchmarks/results/ into docs/benchmarks.md and README's headline table.

    python -m benchmarks.figures

Whether a goal is met is computed here, from the unrounded measurement. Nothing here measures.
"""

from .page import headline_table, page

__all__ = ["headline_table", "page"]
