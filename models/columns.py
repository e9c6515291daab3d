"""How a net sees the columns of a table: scaling, numerical embeddings, categories."""

from typing import Any

import keras

from .categories import CategoryEmbedding, OneHotCategories, all_texts, places_of_texts
from .config.columns import ColumnsConfig, RowsConfig
from .numeric_embeddings import PeriodicEmbedding, PiecewiseLinearEmbedding
from .scaling import ScaleColumns


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
