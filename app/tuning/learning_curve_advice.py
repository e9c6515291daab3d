"""Reads learning curves: whether more data, a larger model or more epochs would help."""

from collections.abc import Sequence
from dataclasses import dataclass

# Of epochs: what a loss must still fall, or have risen, to be worth a remark.
_FALLING, _RISEN = 0.01, 0.05
_LAST = 0.1
_LEAST = 1e-12


@dataclass(frozen=True)
class Reading:
    """What a curve says.

    Attributes:
        what: `more data`, `larger model`, `regularize`, `perfect`, `more epochs`, `fewer epochs`,
            `enough` or `unknown`.
        text: the sentence, with its numbers.
    """

    what: str
    text: str


def read_sizes(
    sizes: Sequence[dict[str, float]], score: str, validated: int, noise: float
) -> Reading:
    """Return what score against training-set size says.

    The gap between training and validation at the full size tells variance, what the last step
    up in size gained tells whether data still close it. Both are held against the standard error
    of the score; of one that is within it of 1, nothing more can be seen.

    Args:
        sizes: rows of `samples`, `train` and `validation`, by rising `samples`.
        score: its name.
        validated: samples of the validation split.
        noise: standard error of the score on them.
    """
    if len(sizes) == 1:
        return Reading("unknown", "Of one number of samples nothing can be read: take more data.")
    last, before = sizes[-1], sizes[-2]
    gap, gain = last["train"] - last["validation"], last["validation"] - before["validation"]
    seen = (
        f"{score} {last['train']:.4f} in training and {last['validation']:.4f} in validation; "
        f"from {before['samples']:,.0f} to {last['samples']:,.0f} samples validation gained "
        f"{gain:+.4f} (standard error {noise:.4f})"
    )
    if 1 - last["validation"] <= noise:
        return Reading(
            "perfect",
            f"Neither more data nor a larger model would show: {seen}. Validation is as near to 1 "
            f"as {validated:,} samples can tell.",
        )
    if gain > noise:
        return Reading("more data", f"More data would help: {seen}.")
    if gap <= 2 * noise:
        return Reading("larger model", f"A larger model may help, more data would not: {seen}.")
    return Reading(
        "regularize",
        f"The model learns its samples by heart, and more data of the kind add little: {seen}. "
        "Augment, regularize, or take a smaller model.",
    )


def read_epochs(losses: Sequence[float]) -> Reading:
    """Return what the validation loss by epoch says.

    Args:
        losses: of validation, an epoch each.
    """
    count = len(losses)
    if count == 1:
        return Reading("unknown", "Of one epoch nothing can be read: train for several.")
    lowest = min(range(count), key=losses.__getitem__)
    recent = losses[max(0, count - 1 - max(1, round(_LAST * count)))]
    # A loss in float32 may come to 0.
    fall = (recent - losses[-1]) / max(recent, _LEAST)
    rise = losses[-1] / max(losses[lowest], _LEAST) - 1
    seen = f"validation loss was lowest in epoch {lowest + 1} of {count}"
    if rise > _RISEN:
        return Reading(
            "fewer epochs",
            f"Fewer epochs: {seen}, and rose from {losses[lowest]:.4f} to {losses[-1]:.4f}.",
        )
    if fall > _FALLING:
        return Reading(
            "more epochs", f"More epochs: {seen}, and fell by {fall:.1%} in the last of them."
        )
    return Reading("enough", f"Epochs enough: {seen}, and no longer falls.")
