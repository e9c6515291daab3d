"""The rules by which the threshold of a class or label is chosen."""

from dataclasses import dataclass

# What `parse_rule` takes.
THRESHOLDS = (
    "f1; a probability above 0 and below 1; precision=P or recall=P, with P above 0 and at most 1; "
    "or cost=C, with C above 0"
)


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen on the validation split.

    Attributes:
        name: `f1` maximizes F1; `precision` finds the most samples at a stated precision; `recall`
            has the fewest false positives at a stated recall; `cost` minimizes the cost of all
            mistakes; `value` takes a stated probability.
        number: the precision or recall to reach, the cost of a false negative if that of a false
            positive is 1, or the probability; 0 for `f1`.
    """

    name: str
    number: float = 0.0


def parse_rule(rule: float | str) -> ThresholdRule:
    """Return the rule that a setting states: `f1`, `precision=0.9`, `recall=0.8`, `cost=5`, `0.5`.

    Raises:
        ValueError: it states none, or its number is out of range.
    """
    name, _, number = str(rule).strip().rpartition("=")
    name, value = name.strip() or "value", _number(number)
    is_valid = {
        "value": 0 < value < 1,
        "precision": 0 < value <= 1,
        "recall": 0 < value <= 1,
        "cost": 0 < value < float("inf"),
    }
    if str(rule).strip() == "f1":
        return ThresholdRule("f1")
    if not is_valid.get(name, False):
        raise ValueError(f"threshold must be {THRESHOLDS}. Received: threshold={rule!r}.")
    return ThresholdRule(name, value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
