"""How a net sees the columns of a table: scaling, numerical embeddings, categories."""

from dataclasses import dataclass
from typing import Any

import keras

from .categories import CategoryEmbedding, OneHotCategories, all_texts, places_of_texts
from .checks import check_above, check_at_least, check_choice
from .numeric_embeddings import NUMERIC_EMBEDDINGS, PeriodicEmbedding, PiecewiseLinearEmbedding
from .rows import SCALINGS, RowsConfig
from .scaling import ScaleColumns


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

    scaling: str = "standard"
    numeric_embedding: str = "none"
    embedding_dim: int = 4
    num_bins: int = 16
    frequency_scale: float = 0.1
    drop_binary: bool = False
    max_one_hot: int = 1000
    category_dim: int = 8
    column_scale: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("scaling", self.scaling, SCALINGS)
        check_choice("numeric_embedding", self.numeric_embedding, NUMERIC_EMBEDDINGS)
        check_at_least("embedding_dim", self.embedding_dim, 1)
        check_at_least("num_bins", self.num_bins, 2)
        check_above("frequency_scale", self.frequency_scale, 0)
        check_at_least("max_one_hot", self.max_one_hot, 0)
        check_at_least("category_dim", self.category_dim, 1)


def encode_columns(columns: Any, rows: RowsConfig, config: ColumnsConfig) -> Any:
    """Return what the first fully connected layer sees.

    Args:
        columns: float32 `(batch, width)`, from `models.rows.prepare_columns`.
        rows: the columns.
        config: how they are encoded.

    Returns:
        float32 `(batch, width)`: embeddings of numbers, numbers and indicators of missing values,
        one-hot columns, and embeddings of texts.
    """
    parts = []
    numeric = rows.num_columns + len(rows.indicators)
    if rows.num_columns:
        numbers = columns if numeric == columns.shape[1] else columns[:, :numeric]
        if config.numeric_embedding != "none":
            only = numbers if not rows.indicators else columns[:, : rows.num_columns]
            parts.append(_numeric_embedding(config)(only))
        parts.append(numbers)
    if rows.vocabularies:
        parts += _categories(columns[:, numeric:] if numeric else columns, rows, config)
    x = keras.layers.Concatenate(name="encoded")(parts) if len(parts) > 1 else parts[0]
    return ScaleColumns(name="column_scale")(x) if config.column_scale else x


def _numeric_embedding(config: ColumnsConfig) -> keras.layers.Layer:
    sizes = {"features": config.num_bins, "units": config.embedding_dim}
    if config.numeric_embedding == "piecewise":
        return PiecewiseLinearEmbedding(**sizes, name="numeric_embedding")
    return PeriodicEmbedding(
        **sizes, frequency_scale=config.frequency_scale, name="numeric_embedding"
    )


def _categories(codes: Any, rows: RowsConfig, config: ColumnsConfig) -> list[Any]:
    places = places_of_texts(rows.vocabularies)
    is_large = [len(numbers) > config.max_one_hot for numbers in places]
    small = [[] if large else numbers for numbers, large in zip(places, is_large, strict=True)]
    encoded = []
    if any(small):
        encoded.append(OneHotCategories(small, config.drop_binary, name="one_hot")(codes))
    if any(is_large):
        columns = [column for column, large in enumerate(is_large) if large]
        layer = CategoryEmbedding(
            columns,
            len(all_texts(rows.vocabularies)),
            config.category_dim,
            name="category_embedding",
        )
        encoded.append(layer(codes))
    return encoded
