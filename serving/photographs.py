"""Finds the digit in a photograph or a scan, and leaves paper, shadows and lines behind.

Light is evened out by the local median, ink is what differs from it strongly, and of its connected
parts the largest is the digit, with what lies close. Otsu, "A Threshold Selection Method from
Gray-Level Histograms" (1979), parts ink from paper.
"""

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from .images import fit_and_pad, resize_grey

# Up to here an image was cut out for a model already: it is left as it is.
_SMALL_SIDE = 64
_SIDE, _COARSE_SIDE = 384, 96
# Of the coarse side: wider than two strokes of a marker, narrower than most shadows.
_MEDIAN_SIZE = 31
_LEAST_CONTRAST = 0.08
# Ink lighter than this share of the digit's belongs to ruled lines and to the page behind.
_FAINT = 0.45
# A part of the digit has this share of its ink, or more, and lies within this share of its size.
_PART, _CLOSE = 0.02, 0.3
# Of the digit's longer side: strokes of a fine pen are thickened to this.
_LEAST_STROKE = 0.09
# As MNIST has it: the digit's longer side is 20 of 28.
_FILL = 20 / 28


def find_digit(grey: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the digit of a photograph, bright on black, as large as MNIST's digits.

    Args:
        grey: uint8 `(height, width)`; ink on lighter or on darker paper. An image of up to 64
            pixels a side, or without ink, is only brought to the size.
        shape: `(height, width)` wanted.

    Returns:
        uint8 of that shape.
    """
    if max(grey.shape) <= _SMALL_SIDE:
        return fit_and_pad(grey, shape)
    ink = _ink(_shrink(grey, _SIDE))
    strength = _strength(ink)
    if strength < _LEAST_CONTRAST:
        return fit_and_pad(grey, shape)
    digit = _digit(ink > _FAINT * strength)
    level = np.where(_widen(digit, 3), (ink / strength).clip(0, 1), 0)
    top, left, bottom, right = _box(digit)
    return _centred(_thicken(level[top:bottom, left:right], digit), shape)


def _shrink(grey: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(grey.shape)
    if scale >= 1:
        return grey
    height, width = (max(1, round(length * scale)) for length in grey.shape)
    return resize_grey(grey, (height, width))


def _ink(grey: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from the paper around it, as a share, in one direction."""
    coarse = Image.fromarray(_shrink(grey, _COARSE_SIDE))
    size = min(_MEDIAN_SIZE, (min(coarse.size) - 1) // 2 * 2 + 1)
    smooth = coarse.filter(ImageFilter.MedianFilter(size)).filter(ImageFilter.GaussianBlur(2))
    paper = resize_grey(np.asarray(smooth), grey.shape).astype(np.float32)
    darker: np.ndarray = paper - grey
    # Noise lies on both sides of the paper, ink far out on one.
    is_dark = (darker**3).sum() >= 0
    ink: np.ndarray = np.where(
        is_dark, darker / np.maximum(paper, 32), -darker / np.maximum(255 - paper, 32)
    )
    return ink


def _strength(ink: np.ndarray) -> float:
    """Return the typical contrast of ink: the median of what Otsu's threshold parts off."""
    counts, edges = np.histogram(ink.clip(0, 1), 128, (0, 1))
    levels = (edges[:-1] + edges[1:]) / 2
    below, sums = counts.cumsum(), (counts * levels).cumsum()
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    if np.isnan(apart).all():
        return 0.0
    dark = ink[ink > levels[np.nanargmax(apart)]]
    return float(np.median(dark)) if len(dark) else 0.0


def _digit(mask: np.ndarray) -> np.ndarray:
    """Return the mask of the digit alone: the largest connected part, and others close to it."""
    labels = _connected(mask)
    count = labels.max()
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = np.array([_box(labels == label) for label in range(1, count + 1)])
    # What is cut by the frame is rather the page's edge or a line.
    cuts = (boxes[:, :2] == 0).sum(axis=1) + (boxes[:, 2:] == mask.shape).sum(axis=1)
    first = int((areas * 0.2**cuts).argmax())
    gaps = np.maximum(boxes[:, :2] - boxes[first, 2:], boxes[first, :2] - boxes[:, 2:])
    reach = _CLOSE * (boxes[first, 2:] - boxes[first, :2]).max()
    belongs = (areas >= _PART * areas[first]) & (gaps.max(axis=1) <= reach) & (cuts <= cuts[first])
    kept: np.ndarray = np.concatenate([[False], belongs])[labels]
    return kept


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of what is set; the last two are behind it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _connected(mask: np.ndarray) -> np.ndarray:
    """Number the connected parts of a mask, from 1; pixels touch by sides and by corners.

    By runs: those that overlap in neighbouring rows are one part.
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
    numbers = np.unique(roots, return_inverse=True)[1] + 1
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers, ends - starts)
    return labels


def _widen(mask: np.ndarray, size: int) -> np.ndarray:
    """Let each set pixel set all of a square around it."""
    return (
        np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(size))) > 0
    )


def _thicken(level: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Widen thin strokes to the least width that survives shrinking to a few pixels."""
    sides = sum(np.count_nonzero(np.diff(mask, axis=axis)) for axis in (0, 1))
    width = 2 * np.count_nonzero(mask) / sides
    wanted = round(_LEAST_STROKE * max(level.shape) - width)
    grey = Image.fromarray(np.rint(255 * level).astype(np.uint8))
    if wanted < 2:
        return np.asarray(grey)
    size = wanted // 2 * 2 + 1
    return np.asarray(ImageOps.expand(grey, size // 2).filter(ImageFilter.MaxFilter(size)))


def _centred(digit: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Shrink or enlarge a digit and lay it in the middle."""
    scale = _FILL * min(shape) / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    laid = np.zeros(shape, np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    laid[top : top + height, left : left + width] = resize_grey(digit, (height, width))
    return laid
