"""How a data source is to be read, where the source alone does not say."""

from dataclasses import dataclass

from models.checks import check_choice


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How a data source is read.

    Attributes:
        target: columns of a CSV that are to be predicted.
        categorical: columns of a CSV whose numbers are names, such as postcodes.
        unreadable: what becomes of images that cannot be read: `refuse` them all with an error,
            or `skip` them and say which.

    Raises:
        ValueError: a value is unknown, or a column is named twice.
    """

    target: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    unreadable: str = "refuse"

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("target", "categorical"):
            columns = getattr(self, name)
            if len(set(columns)) < len(columns):
                raise ValueError(
                    f"{name} must name each column once. Received: {name}={','.join(columns)}."
                )
        check_choice("unreadable", self.unreadable, ("refuse", "skip"))
