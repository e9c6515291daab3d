"""Finds the digit in a photograph or a scan, without paper, shadows and ruled lines.

The local median removes uneven light; pixels that differ from it strongly are ink. The largest
connected component of the ink and those close to it are the digit. Ink and paper are separated by
Otsu, "A Threshold Selection Method from Gray-Level Histograms" (1979). All of it happens on a
reduced image, with grays and ink in 256 steps, which are counted instead of sorted.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .image_sources import ImageSource
from .images import fit_and_pad, read_enough, resize

# An image with no side above this was already cropped for a model, and is only resized.
_SMALL_SIDE = 64
# The longest side in which the digit is found; in which it is seen whether ink fills the frame; and
# in which the light is measured.
_SIDE, _FRAME_SIDE, _LIGHT_SIDE = 384, 128, 48
# In pixels of the image of the light: wider than two strokes of a marker, narrower than most
# shadows.
_MEDIAN_SIZE = 15
_MIN_CONTRAST = 0.08
# Ink fainter than this fraction of the digit's ink belongs to ruled lines and to the page behind.
_FAINT = 0.45
# A component belongs to the digit if it has at least this fraction of the digit's ink and is no
# farther away than this fraction of the digit's size.
_PART, _CLOSE = 0.02, 0.3
# A digit that fills the frame has at least this fraction of its ink in the middle quarter.
_FILLED = 0.15
# Fractions of the digit's longer side. A wider component is a shadow; thinner strokes, of a fine
# pen, are thickened.
_MAX_STROKE, _MIN_STROKE = 0.2, 0.09
# The digit's longer side is 20 of 28 pixels, as in MNIST.
_FILL = 20 / 28
# Least share of the variance that is between ink and paper, and of pixels that are paper. Nearly
# all digits of MNIST, Semeion and digits8x8, and photographs of them, have more.
_MIN_SEPARABILITY, _MIN_PAPER = 0.76, 0.65


def read_photograph(source: ImageSource) -> np.ndarray:
    """Read an image for `find_digit` and `shows_ink`: a JPEG file may be decoded smaller.

    Returns:
        uint8 `(height, width)`.

    Raises:
        InputError: the image cannot be read, see `serving.images.read_pixels`.
    """
    return read_enough(source, (_SIDE // 2, _SIDE // 2))


def find_digit(gray: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the digit of a photograph, bright on black, as large as the digits of MNIST.

    Args:
        gray: uint8 `(height, width)`, ink on lighter or on darker paper. An image without ink, or
            with sides of at most 64 pixels, is only resized.
        shape: `(height, width)` of the result.

    Returns:
        uint8 of that shape.
    """
    if max(gray.shape) <= _SMALL_SIDE:
        return fit_and_pad(gray, shape)
    shrunk = _shrink(gray, _SIDE)
    fills = _fills_frame(_shrink(shrunk, _FRAME_SIDE))
    best = _best(shrunk, _paper(shrunk) if fills else _paper_around(shrunk))
    if best is None:
        return fit_and_pad(gray, shape)
    return _centered(_thicken(best.level, best.mask), shape)


def shows_ink(gray: np.ndarray) -> bool:
    """Return whether an image may show ink on paper, rather than a scene.

    Two levels explain most of the variance of a small image (Otsu's separability); most of a
    larger one is as light as the paper around it.

    Args:
        gray: uint8 `(height, width)`.
    """
    if max(gray.shape) <= _SMALL_SIDE:
        values = gray / np.float64(255)
        is_bright = gray > _otsu(_count(gray))
        share, variance = is_bright.mean(), values.var()
        if not 0 < share < 1:
            return True
        apart = values[is_bright].mean() - values[~is_bright].mean()
        return bool(share * (1 - share) * apart**2 >= _MIN_SEPARABILITY * variance)
    shrunk = _shrink(gray, _SIDE)
    is_paper = np.maximum(*_ink(shrunk, _paper_around(shrunk))) < 0.1 * 255
    return bool(is_paper.mean() >= _MIN_PAPER)


class _Digit(NamedTuple):
    """A candidate, cropped to its bounding box: ink up to 255, its mask, and its score."""

    level: np.ndarray
    mask: np.ndarray
    score: float


def _fills_frame(gray: np.ndarray) -> bool:
    """Return whether the digit fills the image, as in a scan, which has no paper around it."""
    digit = _best(gray, _paper(gray))
    if digit is None:
        return False
    # Coarse, since the edge of a shadow is ragged.
    coarse = _shrink(np.uint8(255) * digit.mask, _SMALL_SIDE) > 127
    is_thin = coarse.any() and _stroke_width(coarse) <= _MAX_STROKE * max(coarse.shape)
    lengths = zip(digit.mask.shape, gray.shape, strict=True)
    return bool(is_thin) and all(length > 0.95 * side for length, side in lengths)


def _best(gray: np.ndarray, paper: np.ndarray) -> _Digit | None:
    """Return the better one of the candidates for dark ink and for bright ink (chalk), or None."""
    found = [digit for digit in map(_find, _ink(gray, paper)) if digit is not None]
    return max(found, key=lambda digit: digit.score, default=None)


def _find(ink: np.ndarray) -> _Digit | None:
    strength = _strength(ink)
    if strength < _MIN_CONTRAST * 255:
        return None
    mask, score = _largest(ink, _FAINT * strength)
    top, left, bottom, right = _box(mask)
    box = slice(top, bottom), slice(left, right)
    level = np.minimum(ink[box] * np.float32(255 / strength), 255).astype(np.uint8)
    return _Digit(np.where(_widen(mask[box], 3), level, np.uint8(0)), mask[box], score)


def _shrink(gray: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(gray.shape)
    if scale >= 1:
        return gray
    height, width = (max(1, round(length * scale)) for length in gray.shape)
    return resize(gray, (height, width))


def _ink(gray: np.ndarray, paper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much darker, and how much brighter, each pixel is than the paper.

    Args:
        gray: uint8 `(height, width)`.
        paper: the paper's gray, float32 `(height, width)` or `(1, 1)`.

    Returns:
        Two arrays, uint8 `(height, width)`; 255 is the most that is possible on this paper.
    """
    darker = paper - gray
    room = np.maximum(paper, 32), np.maximum(255 - paper, 32)
    dark, bright = darker * (255 / room[0]), darker * (-255 / room[1])
    return dark.clip(0, 255).astype(np.uint8), bright.clip(0, 255).astype(np.uint8)


def _paper_around(gray: np.ndarray) -> np.ndarray:
    """Return the paper's gray around each pixel, float32 `(height, width)`: light may be uneven."""
    coarse = _shrink(gray, _LIGHT_SIDE)
    margin = min(_MEDIAN_SIZE // 2, min(coarse.shape) - 1)
    # Mirrored at the frame: if its edge were repeated, a table there would count as paper.
    medians = _medians(np.pad(coarse, margin, mode="reflect"), 2 * margin + 1)
    smooth = Image.fromarray(medians).filter(ImageFilter.GaussianBlur(_MEDIAN_SIZE / 10))
    return resize(np.asarray(smooth), gray.shape).astype(np.float32)


def _medians(gray: np.ndarray, size: int) -> np.ndarray:
    """Return the median of each square of `size` pixels that fits, to the nearest of 64 levels.

    Sums over squares are differences of sums over rectangles from the corner, whatever the size.
    """
    levels = np.arange(3, 256, 4)[:, np.newaxis, np.newaxis]
    sums = (gray <= levels).cumsum(axis=1, dtype=np.int16).cumsum(axis=2, dtype=np.int16)
    sums = np.pad(sums, ((0, 0), (1, 0), (1, 0)))
    rows = sums[:, size:] - sums[:, :-size]
    counts = rows[:, :, size:] - rows[:, :, :-size]
    lower = (2 * counts < size**2).sum(axis=0)
    medians: np.ndarray = (4 * lower + 2).astype(np.uint8)
    return medians


def _paper(gray: np.ndarray) -> np.ndarray:
    """Return the most common gray of a scan, float32 `(1, 1)`, for ink that may fill the frame."""
    counts = _count(gray)
    threshold = _otsu(counts)
    is_dark = np.arange(256) <= threshold
    most = is_dark if 2 * counts[is_dark].sum() > gray.size else ~is_dark
    return np.full((1, 1), _median(counts * most), np.float32)


def _count(levels: np.ndarray) -> np.ndarray:
    """Return how many pixels have each of the 256 levels, int64 `(256,)`."""
    counts: np.ndarray = np.bincount(levels.ravel(), minlength=256)
    return counts


def _median(counts: np.ndarray) -> int:
    return int(np.searchsorted(counts.cumsum(), counts.sum() / 2))


def _otsu(counts: np.ndarray) -> int:
    """Return the highest of the lower levels by Otsu's threshold."""
    below, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.nan_to_num(apart).argmax())


def _strength(ink: np.ndarray) -> int:
    """Return the median of the ink of all pixels above Otsu's threshold; 0 without ink."""
    counts = _count(ink)
    counts[: _otsu(counts) + 1] = 0
    return _median(counts) if counts.any() else 0


def _largest(ink: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """Return the mask of the best component and those close to it, and the score of the best.

    Components are those of blocks of 2x2 pixels: a quarter of the work, and the gaps that noise
    tears into thin strokes are closed.
    """
    levels = np.arange(256, dtype=np.float32)
    # Cubed, since a shadow is wide and faint.
    blocks = _sum_blocks(np.where(levels > least, levels**3, 0)[ink])
    runs = _connected(blocks > 0)
    amounts, inner, boxes = _measure(runs, blocks)
    # A component that is cut by the frame is probably the page's edge or a line. But a digit that
    # was cropped closely touches the frame all around, and fills the middle.
    cuts = (boxes[:, :2] == 0).sum(axis=1) + (boxes[:, 2:] == blocks.shape).sum(axis=1)
    cuts[(cuts > 2) & (inner > _FILLED * amounts)] = 0
    scores = amounts * 0.2**cuts
    first = int(scores.argmax())
    gaps = np.maximum(boxes[:, :2] - boxes[first, 2:], boxes[first, :2] - boxes[:, 2:])
    reach = _CLOSE * (boxes[first, 2:] - boxes[first, :2]).max()
    belongs = (
        (amounts >= _PART * amounts[first]) & (gaps.max(axis=1) <= reach) & (cuts <= cuts[first])
    )
    kept = np.zeros(blocks.shape, bool)
    kept[blocks > 0] = np.repeat(belongs[runs.labels], runs.ends - runs.starts)
    height, width = ink.shape
    mask = kept.repeat(2, axis=0).repeat(2, axis=1)[:height, :width] & (ink > least)
    return mask, float(scores[first])


def _sum_blocks(values: np.ndarray) -> np.ndarray:
    """Return the sum of each block of 2x2 pixels; one that is cut by the frame has fewer."""
    height, width = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2)))
    rows = even[::2] + even[1::2]
    sums: np.ndarray = rows[:, ::2] + rows[:, 1::2]
    return sums


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of the set pixels; the last two are exclusive."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


class _Runs(NamedTuple):
    """Runs of set pixels in rows, each with the number of its connected component, from 0."""

    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray


def _connected(mask: np.ndarray) -> _Runs:
    """Label the 8-connected components of a mask: runs that overlap in neighboring rows are one."""
    width = mask.shape[1] + 2  # with a margin, so that no run goes on in the next row
    edges = np.flatnonzero(np.diff(np.pad(mask, ((0, 0), (1, 1))).ravel()))
    starts, ends = edges[::2], edges[1::2]
    first = np.searchsorted(ends, starts - width)
    counts = np.searchsorted(starts, ends - width, "right") - first
    below = np.repeat(np.arange(len(starts)), counts)
    above = np.arange(len(below)) + np.repeat(first - counts.cumsum() + counts, counts)
    rows = starts // width
    return _Runs(rows, starts - rows * width, ends - rows * width, _join(len(rows), below, above))


def _join(count: int, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the number of the component of each of `count` nodes, of which pairs are joined.

    Each root takes the smallest root that it is joined with, until none is left that differs.
    """
    parents = np.arange(count)
    while len(some):
        roots, other_roots = parents[some], parents[others]
        np.minimum.at(parents, np.maximum(roots, other_roots), np.minimum(roots, other_roots))
        while not np.array_equal(parents, grandparents := parents[parents]):
            parents = grandparents
        differ = parents[some] != parents[others]
        some, others = some[differ], others[differ]
    is_root = parents == np.arange(count)
    labels: np.ndarray = (is_root.cumsum() - 1)[parents]
    return labels


def _measure(runs: _Runs, amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the amount of each component, that in the middle quarter of the image, and its box.

    Boxes are top, left, bottom and right, `(components, 4)`; the last two are exclusive.
    """
    rows, starts, ends, labels = runs
    height, width = amounts.shape
    sums = np.concatenate([[0.0], amounts.ravel().cumsum(dtype=np.float64)])
    row = rows * width

    all_of_it = sums[row + ends] - sums[row + starts]
    left, right = width // 4, width - width // 4
    is_inner = (rows >= height // 4) & (rows < height - height // 4)
    inner = (sums[row + ends.clip(left, right)] - sums[row + starts.clip(left, right)]) * is_inner
    boxes = np.tile([height, width, 0, 0], (labels.max() + 1, 1))
    for side, values in enumerate((rows, starts)):
        np.minimum.at(boxes[:, side], labels, values)
    for side, values in enumerate((rows + 1, ends), 2):
        np.maximum.at(boxes[:, side], labels, values)
    return np.bincount(labels, all_of_it), np.bincount(labels, inner), boxes


def _widen(levels: np.ndarray, size: int) -> np.ndarray:
    """Return the largest value in the square of `size` pixels around each pixel."""
    for _ in range(2):  # rows, then columns
        framed = np.pad(levels, ((size // 2, size // 2), (0, 0)))
        levels = np.maximum.reduce([framed[n : n + len(levels)] for n in range(size)]).T
    return levels


def _stroke_width(mask: np.ndarray) -> float:
    """Return the stroke width in pixels: twice the area divided by the length of the outline."""
    framed = np.pad(mask, 1)
    sides = sum(np.count_nonzero(np.diff(framed, axis=axis)) for axis in (0, 1))
    return 2 * np.count_nonzero(mask) / sides


def _thicken(level: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Widen thin strokes enough that they survive shrinking to a few pixels."""
    wanted = round(_MIN_STROKE * max(level.shape) - _stroke_width(mask))
    if wanted < 2:
        return level
    size = wanted // 2 * 2 + 1
    return _widen(np.pad(level, size // 2), size)


def _centered(digit: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a digit and place it in the middle."""
    scale = _FILL * min(shape) / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    placed = np.zeros(shape, np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    placed[top : top + height, left : left + width] = resize(digit, (height, width))
    return placed
