"""Diagnoses learning curves: would more data, a larger model or more epochs help?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Relative changes of the validation loss that suggest more epochs, or fewer.
_FALLING, _RISEN = 0.01, 0.05
# The last fraction of the epochs, in which the loss must still fall to suggest more.
_RECENT = 0.1
_MIN_LOSS = 1e-12
# Standard errors from the middle to the ends of a 95% interval.
_NORMAL = 1.96


@dataclass(frozen=True)
class Diagnosis:
    """What a learning curve suggests.

    Attributes:
        advice: `more data`, `larger model`, `regularize`, `perfect`, `more epochs`,
            `fewer epochs`, `enough` or `unknown`.
        text: a sentence with the numbers behind it.
    """

    advice: str
    text: str


def diagnose_sizes(
    sizes: Sequence[dict[str, float]], score: str, validated: int, noise: float
) -> Diagnosis:
    """Diagnose the score against the size of the training set.

    The difference between training and validation score at the full size shows the variance. The
    gain from the last increase in size shows whether more data still reduces it. Both count only if
    their whole 95% interval is above 0. If the validation score is within one standard error of 1,
    no improvement could be measured.

    Args:
        sizes: rows of `samples`, `train` and `validation`, in order of `samples`.
        score: name of the score.
        validated: number of validation samples.
        noise: standard error of the score on the validation samples.
    """
    if len(sizes) == 1:
        return Diagnosis("unknown", "A single training-set size shows no trend: use more data.")
    last, before = sizes[-1], sizes[-2]
    gap, gain = last["train"] - last["validation"], last["validation"] - before["validation"]
    # Both models of the gain have an error, and that of the training score is small.
    of_gap, of_gain = _NORMAL * noise, _NORMAL * math.sqrt(2) * noise
    numbers = (
        f"{score} {last['train']:.4f} in training and {last['validation']:.4f} in validation, "
        f"{_interval(gap, of_gap)} less; from {before['samples']:,.0f} to {last['samples']:,.0f} "
        f"samples validation gained {_interval(gain, of_gain)}"
    )
    if 1 - last["validation"] <= noise:
        return Diagnosis(
            "perfect",
            f"The score is as good as perfect: {numbers}. An improvement could not be measured "
            f"with {validated:,} validation samples.",
        )
    if gain > of_gain:
        return Diagnosis("more data", f"More data would help: {numbers}.")
    needed = ""
    if gain > 0:
        count = math.ceil(validated * (of_gain / gain) ** 2)
        needed = (
            f" To show such a gain takes about {count:,} validation samples, not {validated:,}."
        )
    if gap <= of_gap:
        return Diagnosis(
            "larger model",
            "A larger model may help: neither a gap between training and validation nor a gain by "
            f"more data is shown: {numbers}.{needed}",
        )
    return Diagnosis(
        "regularize",
        f"The model overfits, and a gain by more data is not shown: {numbers}. "
        f"Augment, regularize, or use a smaller model.{needed}",
    )


def _interval(value: float, reach: float) -> str:
    return f"{value:+.4f} [{value - reach:+.4f}, {value + reach:+.4f}]"


def diagnose_epochs(losses: Sequence[float]) -> Diagnosis:
    """Diagnose the validation loss by epoch.

    Args:
        losses: validation loss after each epoch.
    """
    count = len(losses)
    if count == 1:
        return Diagnosis("unknown", "A single epoch shows no trend: train for several.")
    lowest = min(range(count), key=losses.__getitem__)
    recent = losses[max(0, count - 1 - max(1, round(_RECENT * count)))]
    # A loss in float32 can be 0.
    fall = (recent - losses[-1]) / max(recent, _MIN_LOSS)
    rise = losses[-1] / max(losses[lowest], _MIN_LOSS) - 1
    numbers = f"validation loss was lowest in epoch {lowest + 1} of {count}"
    if rise > _RISEN:
        return Diagnosis(
            "fewer epochs",
            f"Train for fewer epochs: {numbers}, and rose from {losses[lowest]:.4f} to "
            f"{losses[-1]:.4f}.",
        )
    if fall > _FALLING:
        return Diagnosis(
            "more epochs",
            f"Train for more epochs: {numbers}, and still fell by {fall:.1%} at the end.",
        )
    return Diagnosis("enough", f"The number of epochs is right: {numbers}, and no longer falls.")
