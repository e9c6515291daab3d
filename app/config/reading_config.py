"""Settings for reading a data source: what the source itself does not specify."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from models.config.limits import OneOf, Text, check_limits
from serving.missing_marks import MISSING

MAX_SIDE = 1024
_SIDES = f"one side, or height and width, of 1 to {MAX_SIDE:,} pixels"
_IMAGE_SIZE = Text(_SIDES)


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How a data source is read.

    Attributes:
        target: columns of a table to predict.
        categorical: columns of numbers or dates to treat as categories, such as postcodes; or a
            target whose numbers and texts are all classes.
        drop: columns to leave out.
        keep: columns to learn from although they would be left out, see `app.data.left_out`.
        missing: texts that stand for a missing value, in upper or lower case. An empty cell always
            does; numbers and dates have more, see `serving.columns.MISSING_NUMBERS`.
        image_column: column with the paths of images, relative to the folder of the table, or, in
            parquet, with the images themselves; empty if other columns are the inputs.
        image_size: side, or height and width, of the images of the family `features`. Empty
            chooses it from the files, see `app.data.image_files.choose_shape`.
        unreadable: what to do with images that cannot be read: `refuse` reports an error, `skip`
            leaves them out and lists them in the report.

    Raises:
        ValueError: a value is unknown, or a column is named twice or for two purposes.
    """

    # Numbers are names and marks too: --target 2024, --set missing=-999.
    __pydantic_config__: ClassVar = {"coerce_numbers_to_str": True}

    target: Annotated[tuple[str, ...], Text("names of columns")] = ()
    categorical: Annotated[tuple[str, ...], Text("names of columns")] = ()
    drop: Annotated[tuple[str, ...], Text("names of columns")] = ()
    keep: Annotated[tuple[str, ...], Text("names of columns")] = ()
    missing: Annotated[tuple[str, ...], Text("texts")] = MISSING
    image_column: Annotated[str, Text("name of a column")] = ""
    image_size: Annotated[tuple[int, ...], _IMAGE_SIZE] = ()
    unreadable: Annotated[str, OneOf(("refuse", "skip"))] = "refuse"

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self)
        for name in ("target", "categorical", "drop", "keep"):
            columns = getattr(self, name)
            if len(set(columns)) < len(columns):
                raise ValueError(
                    f"{name} must name each column once. Received: {name}={','.join(columns)}."
                )
        for name in ("target", "categorical", "keep"):
            for column in sorted(set(self.drop) & set(getattr(self, name))):
                raise ValueError(
                    f"A column must be in drop or in {name}. Received: {column!r} in both."
                )
        if self.image_size:
            is_allowed = all(1 <= side <= MAX_SIDE for side in self.image_size)
            if len(self.image_size) > 2 or not is_allowed:
                raise ValueError(
                    f"image_size must be {_SIDES}. "
                    f"Received: image_size={','.join(map(str, self.image_size))}."
                )
