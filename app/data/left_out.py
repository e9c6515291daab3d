"""Finds the columns that a model should not learn from: identifiers, constants, and the target.

The rules leave out little: a column that merely predicts well stays.
"""

import re
from itertools import pairwise

import numpy as np

from serving.images import IMAGE_SUFFIXES
from serving.row_format import RawColumn

from .column_survey import ColumnSurvey
from .datasets import EMPTY

# Fewer rows tell nothing: a few texts or numbers may all differ by chance.
_MIN_ROWS = 20
# Fraction of different values, among those that are there, from which on they name the rows.
_UNIQUE = 0.95
# Words in the name of a column that numbers rows, or names what a row is about.
_ID_WORDS = {"id", "ids", "uid", "uuid", "guid", "index", "idx", "key", "rowid", "unnamed"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# A score that separates classes, or orders values, as well as this is made from the target; it
# takes this many rows, and this many of each class, to tell that from luck.
_PERFECT_AUC, _PERFECT_RANK_CORRELATION = 0.999, 0.9999
_MIN_SCORED, _MIN_OF_CLASS = 500, 20
# Rows for each value of a column that is one-to-one with the target, on average.
_MIN_REPEATS = 5


def why_useless(survey: ColumnSurvey) -> str:
    """Return why a column cannot say anything: no value, or one for all rows; empty if it may."""
    counts = survey.texts.counts
    if not counts:
        return EMPTY
    return f"always {next(iter(counts)):.40}" if len(counts) == 1 and not survey.gaps else ""


def why_identifier(survey: ColumnSurvey, column: RawColumn) -> str:
    """Return why a column names the rows, rather than measuring something; empty if it may not.

    - It is a text that is different in at least 95% of the rows that have one.
    - It is a whole number that is different in at least 95% of the rows that have one, and its name
      says that it is an identifier, or the numbers are consecutive. Other measurements may well
      differ in each row.

    Args:
        survey: what is known about its cells; fewer than 20 tell nothing.
        column: how it is read.
    """
    texts = survey.texts
    if texts.uniqueness < _UNIQUE or texts.total < _MIN_ROWS:
        return ""
    unique = "unique in each row" if texts.uniqueness == 1 else "unique in nearly each row"
    unique += " that has one" if survey.gaps else ""
    if column.kind == "text":
        first = next(iter(texts.counts)).lower()
        hint = f"; --image-column {survey.name} learns from the images that it names"
        return f"{unique}{hint if first.endswith(IMAGE_SUFFIXES) else ''}"
    if column.kind != "number" or survey.integers is None:
        return ""
    if _ID_WORDS & {word.lower() for word in _WORD.findall(survey.name)}:
        return f"an identifier, {unique}"
    least, largest = survey.integers
    return "consecutive numbers" if largest - least < texts.total / _UNIQUE else ""


def why_too_good(values: np.ndarray, targets: np.ndarray, task: str) -> str:
    """Return how a column gives the target away; empty if it does not.

    - Its values are one-to-one with those of the target, with five rows for each on average. So is
      whether a value is missing, like the date of closing that only closed accounts have.
    - It is a score of the target: a number that separates each class from the next with an area
      under the ROC curve of at least 0.999, or that orders values with a rank correlation of at
      least 0.9999. That takes 500 rows, and 20 of each class.

    Args:
        values: the column, float64 or object `(rows,)`; NaN or the empty text where it is missing.
        targets: class indices, or a label or value, `(rows,)`.
        task: `multiclass`, `multilabel` or `regression`.
    """
    is_missing = values == "" if values.dtype == object else np.isnan(values)
    codes, classes = (np.unique(array, return_inverse=True)[1] for array in (values, targets))
    if _are_one_to_one(codes, classes):
        return "one-to-one with it"
    if _are_one_to_one(is_missing.astype(np.int64), classes):
        return "its missing values are one-to-one with it"
    if values.dtype == object or (~is_missing).sum() < _MIN_SCORED:
        return ""
    scores, truth = values[~is_missing], targets[~is_missing]
    if task == "regression":
        correlation = abs(_rank_correlation(scores, truth))
        perfect = correlation >= _PERFECT_RANK_CORRELATION
        return f"a rank correlation of {correlation:.5f}" if perfect else ""
    auc = _least_auc(scores, truth)
    return f"an area under the ROC curve of {auc:.4f}" if auc >= _PERFECT_AUC else ""


def _are_one_to_one(codes: np.ndarray, classes: np.ndarray) -> bool:
    """Return whether two columns of codes from 0 on tell the same, with enough rows."""
    count = len(np.unique(classes))
    if count < 2 or len(codes) < max(_MIN_ROWS, _MIN_REPEATS * count):
        return False
    pairs = codes * (int(classes.max()) + 1) + classes
    return len(np.unique(codes)) == len(np.unique(pairs)) == count


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    ranks = _ranks(first), _ranks(second)
    if any(rank[0] == rank.max() == rank.min() for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value from 1 on, the mean one for those that are equal."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _least_auc(scores: np.ndarray, classes: np.ndarray) -> float:
    """Return how well the worst separated pair of neighboring classes is; 0 if one is rare."""
    groups = [scores[classes == number] for number in np.unique(classes)]
    if len(groups) < 2 or min(map(len, groups)) < _MIN_OF_CLASS:
        return 0.0
    groups.sort(key=np.median)
    return min(_auc(low, high) for low, high in pairwise(groups))


def _auc(low: np.ndarray, high: np.ndarray) -> float:
    """Return the probability that a number of `high` exceeds one of `low` (Mann, Whitney, 1947)."""
    ranks = _ranks(np.concatenate([low, high]))[len(low) :].sum()
    return float((ranks - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))
