"""Tells photographs of scenes from digits, which the family `digits` needs."""

from collections.abc import Sequence

from models.config.digits import IMAGE_SIDE

from .reading_progress import tell

# Images of a source that are looked at.
LOOKED_AT = 100


def note_colors(source: str, are_colored: Sequence[bool]) -> tuple[str, ...]:
    """Return a note, and tell it, if most images of a source are in color.

    Args:
        source: name of the source.
        are_colored: whether each image that was looked at has colors.
    """
    if 2 * sum(are_colored) <= len(are_colored):
        return ()
    note = (
        f"{source} holds images in color, which the family digits sees as {IMAGE_SIDE}x{IMAGE_SIDE}"
        " gray pixels. If colors or details tell the classes apart, use the family features."
    )
    tell(note)
    return (note,)


def note_scenes(source: str, show_ink: Sequence[bool]) -> tuple[str, ...]:
    """Return a note, and tell it, if most images of a source show no ink on paper.

    Args:
        source: name of the source.
        show_ink: whether each image that was looked at may show ink on paper.
    """
    scenes = len(show_ink) - sum(show_ink)
    if 2 * scenes <= len(show_ink):
        return ()
    note = (
        f"{source} seems to hold no digits: {scenes} of {len(show_ink)} images looked at show no "
        "ink on even paper. The family digits sees digits only; for photographs, use the family "
        "features."
    )
    tell(note)
    return (note,)
