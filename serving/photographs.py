"""Finds the digit in a photograph or a scan, without paper, shadows and ruled lines.

The local median removes uneven light; pixels that differ from it strongly are ink. The largest
connected component of the ink and those close to it are the digit. Ink and paper are separated by
Otsu, "A Threshold Selection Method from Gray-Level Histograms" (1979).
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from .images import fit_and_pad, resize

# An image with no side above this was already cropped for a model, and is only resized.
_SMALL_SIDE = 64
_SIDE, _COARSE_SIDE = 384, 64
# In pixels of the coarse image: wider than two strokes of a marker, narrower than most shadows.
_MEDIAN_SIZE = 21
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
    best = _best(_contrast(shrunk, _paper(shrunk)))
    if best is None or not _fills(best, shrunk.shape):
        best = _best(_contrast(shrunk, _paper_around(shrunk)))
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
        is_bright = values > _otsu(values)
        share, variance = is_bright.mean(), values.var()
        if not 0 < share < 1:
            return True
        apart = values[is_bright].mean() - values[~is_bright].mean()
        return bool(share * (1 - share) * apart**2 >= _MIN_SEPARABILITY * variance)
    shrunk = _shrink(gray, _SIDE)
    is_paper = np.abs(_contrast(shrunk, _paper_around(shrunk))) < 0.1
    return bool(is_paper.mean() >= _MIN_PAPER)


class _Digit(NamedTuple):
    """A candidate, cropped to its bounding box: ink from 0 to 1, its mask, and its score."""

    level: np.ndarray
    mask: np.ndarray
    score: float


def _best(contrast: np.ndarray) -> _Digit | None:
    """Return the better one of the candidates for dark ink and for bright ink (chalk), or None."""
    found = [digit for digit in map(_find, (contrast, -contrast)) if digit is not None]
    return max(found, key=lambda digit: digit.score, default=None)


def _fills(digit: _Digit, shape: tuple[int, ...]) -> bool:
    """Return whether the digit fills the image, which then has no paper around the digit."""
    # Coarse, since the edge of a shadow is ragged.
    coarse = _shrink(np.uint8(255) * digit.mask, _COARSE_SIDE) > 127
    is_thin = coarse.any() and _stroke_width(coarse) <= _MAX_STROKE * max(coarse.shape)
    lengths = zip(digit.mask.shape, shape, strict=True)
    return bool(is_thin) and all(length > 0.95 * side for length, side in lengths)


def _find(ink: np.ndarray) -> _Digit | None:
    strength = _strength(ink)
    if strength < _MIN_CONTRAST:
        return None
    mask, score = _largest(ink, _FAINT * strength)
    level = np.where(_widen(mask, 3), (ink / strength).clip(0, 1), 0)
    top, left, bottom, right = _box(mask)
    box = slice(top, bottom), slice(left, right)
    return _Digit(level[box], mask[box], score)


def _shrink(gray: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(gray.shape)
    if scale >= 1:
        return gray
    height, width = (max(1, round(length * scale)) for length in gray.shape)
    return resize(gray, (height, width))


def _contrast(gray: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Return how much darker each pixel is than the paper, relative to it; negative if lighter."""
    darker: np.ndarray = paper - gray
    contrast: np.ndarray = darker / np.maximum(np.where(darker > 0, paper, 255 - paper), 32)
    return contrast


def _paper_around(gray: np.ndarray) -> np.ndarray:
    """Return the paper's gray around each pixel, float32 `(height, width)`: light may be uneven."""
    coarse = _shrink(gray, _COARSE_SIDE)
    margin = min(_MEDIAN_SIZE // 2, min(coarse.shape) - 1)
    # Mirrored at the frame: if its edge were repeated, a table there would count as paper.
    framed = Image.fromarray(np.pad(coarse, margin, mode="reflect"))
    smooth = framed.filter(ImageFilter.MedianFilter(2 * margin + 1))
    smooth = smooth.filter(ImageFilter.GaussianBlur(2))
    inner = np.asarray(smooth)[margin : margin + len(coarse), margin : margin + coarse.shape[1]]
    return resize(np.ascontiguousarray(inner), gray.shape).astype(np.float32)


def _paper(gray: np.ndarray) -> np.ndarray:
    """Return the most common gray of a scan at each pixel, for ink that may fill the frame."""
    is_dark = gray <= 255 * _otsu(gray / np.float32(255))
    most = gray[is_dark] if is_dark.mean() > 0.5 else gray[~is_dark]
    return np.full(gray.shape, np.median(most), np.float32)


def _otsu(values: np.ndarray) -> float:
    """Return Otsu's threshold for values from 0 to 1."""
    counts, edges = np.histogram(values, 128, (0, 1))
    levels = (edges[:-1] + edges[1:]) / 2
    below, sums = counts.cumsum(), (counts * levels).cumsum()
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(levels[np.nan_to_num(apart).argmax()])


def _strength(ink: np.ndarray) -> float:
    """Return the median contrast of ink, of all pixels above Otsu's threshold; 0 without ink."""
    dark = ink[ink > _otsu(ink.clip(0, 1))]
    return float(np.median(dark)) if len(dark) else 0.0


def _largest(ink: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """Return the mask of the best component and those close to it, and the score of the best."""
    mask = ink > least
    labels, boxes = _connected(mask)
    # Cubed, since a shadow is wide and faint.
    cubed = ink**3
    amounts = np.bincount(labels.ravel(), weights=cubed.ravel())[1:]
    # A component that is cut by the frame is probably the page's edge or a line. But a digit that
    # was cropped closely touches the frame all around, and fills the middle.
    cuts = (boxes[:, :2] == 0).sum(axis=1) + (boxes[:, 2:] == mask.shape).sum(axis=1)
    middle = tuple(slice(side // 4, side - side // 4) for side in mask.shape)
    inner = np.bincount(labels[middle].ravel(), cubed[middle].ravel(), len(amounts) + 1)[1:]
    cuts[(cuts > 2) & (inner > _FILLED * amounts)] = 0
    scores = amounts * 0.2**cuts
    first = int(scores.argmax())
    gaps = np.maximum(boxes[:, :2] - boxes[first, 2:], boxes[first, :2] - boxes[:, 2:])
    reach = _CLOSE * (boxes[first, 2:] - boxes[first, :2]).max()
    belongs = (
        (amounts >= _PART * amounts[first]) & (gaps.max(axis=1) <= reach) & (cuts <= cuts[first])
    )
    kept: np.ndarray = np.concatenate([[False], belongs])[labels]
    return kept, float(scores[first])


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of the set pixels; the last two are exclusive."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _connected(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label the 8-connected components of a mask, from 1.

    Works on runs of set pixels: runs that overlap in neighboring rows are one component.

    Returns:
        The label of each pixel, 0 where none is set; and the boxes of the components as top, left,
        bottom and right, `(components, 4)`.
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    firsts = np.searchsorted(rows, np.arange(mask.shape[0] + 1)).tolist()
    begin, end = starts.tolist(), ends.tolist()
    for row in range(1, mask.shape[0]):
        above, last_above = firsts[row - 1], firsts[row]
        for run in range(firsts[row], firsts[row + 1]):
            while above < last_above and end[above] < begin[run]:
                above += 1
            other = above
            while other < last_above and begin[other] <= end[run]:
                parents[root(other)] = root(run)
                other += 1
    roots = np.array([root(run) for run in range(len(rows))])
    names, numbers = np.unique(roots, return_inverse=True)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers + 1, ends - starts)
    boxes = np.tile([*mask.shape, 0, 0], (len(names), 1))
    for side, values in enumerate((rows, starts)):
        np.minimum.at(boxes[:, side], numbers, values)
    for side, values in enumerate((rows + 1, ends), 2):
        np.maximum.at(boxes[:, side], numbers, values)
    return labels, boxes


def _widen(mask: np.ndarray, size: int) -> np.ndarray:
    """Dilate a mask by a square of `size` pixels."""
    return (
        np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(size))) > 0
    )


def _stroke_width(mask: np.ndarray) -> float:
    """Return the stroke width in pixels: twice the area divided by the length of the outline."""
    framed = np.pad(mask, 1)
    sides = sum(np.count_nonzero(np.diff(framed, axis=axis)) for axis in (0, 1))
    return 2 * np.count_nonzero(mask) / sides


def _thicken(level: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Widen thin strokes enough that they survive shrinking to a few pixels."""
    wanted = round(_MIN_STROKE * max(level.shape) - _stroke_width(mask))
    gray = Image.fromarray(np.rint(255 * level).astype(np.uint8))
    if wanted < 2:
        return np.asarray(gray)
    size = wanted // 2 * 2 + 1
    return np.asarray(ImageOps.expand(gray, size // 2).filter(ImageFilter.MaxFilter(size)))


def _centered(digit: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a digit and place it in the middle."""
    scale = _FILL * min(shape) / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    placed = np.zeros(shape, np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    placed[top : top + height, left : left + width] = resize(digit, (height, width))
    return placed
