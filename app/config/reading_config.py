"""Settings for reading a data source: what the source itself does not specify."""

from dataclasses import dataclass

from models.checks import check_choice


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How a data source is read.

    Attributes:
        target: CSV columns to predict.
        categorical: numeric CSV columns to treat as categories, such as postcodes.
        unreadable: what to do with images that cannot be read: `refuse` reports an error, `skip`
            leaves them out and lists them in the report.

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
