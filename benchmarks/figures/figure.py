"""A figure: a measurement, its goal, and whether the measurement meets it."""

import operator
from dataclasses import dataclass

NO_GOAL = "–"  # noqa: RUF001  # an en dash, as tables use it
_COMPARISONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Figure:
    """One row of a table.

    Attributes:
        metric: what was measured, in Markdown.
        measured: the measurement with its unit.
        goal: the goal in the same unit; `NO_GOAL` if there is none.
        met: whether the measurement meets the goal; None where there is no goal.
    """

    metric: str
    measured: str
    goal: str = NO_GOAL
    met: bool | None = None


def compare(
    metric: str, value: float, form: str, sign: str = "", goal: float | None = None
) -> Figure:
    """Return a row whose goal is a number.

    Args:
        metric: what was measured, in Markdown.
        value: the measurement.
        form: format of the measurement and of the goal, such as `{:.1%}`.
        sign: how the measurement must compare with the goal: `≥`, `≤` or `<`.
        goal: the goal; None if there is none.
    """
    measured = form.format(value)
    if goal is None:
        return Figure(metric, measured)
    return Figure(metric, measured, f"{sign} {form.format(goal)}", _COMPARISONS[sign](value, goal))
