"""Settings of the columns of a table: what the input is, and how a net sees it."""

from dataclasses import dataclass
from typing import Annotated

from models.checks import check_at_least

from .limits import Above, AtLeast, OneOf, check_limits

SCALINGS = ("standard", "robust")
NUMERIC_EMBEDDINGS = ("none", "piecewise", "periodic")


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """The columns of a model's input, as determined by the training data.

    Attributes:
        num_columns: number of numeric columns.
        nullable_columns: indices of the numeric columns that may have missing values (NaN), in
            ascending order.
        indicators: indices of the nullable columns that get an indicator of missing values,
            because values were missing in the training data.
        vocabularies: the known texts of each text column; at least one for each column.

    Raises:
        ValueError: there is no column, an index is out of range, or a vocabulary is empty.
    """

    num_columns: int = 4
    nullable_columns: tuple[int, ...] = ()
    indicators: tuple[int, ...] = ()
    vocabularies: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_at_least("num_columns", self.num_columns, 0 if self.vocabularies else 1)
        if any(not 0 <= column < self.num_columns for column in self.nullable_columns):
            raise ValueError(
                f"nullable_columns must be below num_columns={self.num_columns}. "
                f"Received: nullable_columns={self.nullable_columns}."
            )
        if not set(self.indicators) <= set(self.nullable_columns):
            raise ValueError(
                f"indicators must be among nullable_columns={self.nullable_columns}. "
                f"Received: {self.indicators}."
            )
        if not all(self.vocabularies):
            raise ValueError("Each vocabulary must hold a text. Received: an empty one.")

    def prepared_layer(self, scaling: str = "standard") -> str:
        """Return the name of the last layer of `prepare_columns`."""
        if self.vocabularies:
            return "columns"
        if scaling == "robust":
            return "smooth_clip"
        return "fill_missing" if self.nullable_columns else "normalize"


@dataclass(frozen=True, kw_only=True)
class ColumnsConfig:
    """Settings of the columns of a table; they do not apply to images.

    Attributes:
        scaling: how numbers are scaled, see `models.rows.prepare_columns`.
        numeric_embedding: features of each number beside the number itself, one of
            `NUMERIC_EMBEDDINGS`; see `models.numeric_embeddings`.
        embedding_dim: size of the embedding of each number.
        num_bins: bins of `piecewise`, or cosines of `periodic`, for each number.
        frequency_scale: standard deviation of the initial frequencies of `periodic`.
        drop_binary: whether a column with two texts becomes one column instead of two.
        max_one_hot: largest number of texts of a column that becomes one-hot; columns with more
            are embedded.
        category_dim: size of the embedding of a text.
        column_scale: whether each column is multiplied by a factor that is learned.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    scaling: Annotated[str, OneOf(SCALINGS)] = "standard"
    numeric_embedding: Annotated[str, OneOf(NUMERIC_EMBEDDINGS)] = "none"
    embedding_dim: Annotated[int, AtLeast(1)] = 4
    num_bins: Annotated[int, AtLeast(2)] = 16
    frequency_scale: Annotated[float, Above(0)] = 0.1
    drop_binary: bool = False
    max_one_hot: Annotated[int, AtLeast(0)] = 1000
    category_dim: Annotated[int, AtLeast(1)] = 8
    column_scale: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self)
