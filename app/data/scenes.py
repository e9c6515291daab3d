"""Tells photographs of scenes from digits, which the family `digits` needs."""

from collections.abc import Sequence

from .reading_progress import tell

# Images of a source that are looked at.
LOOKED_AT = 100


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
