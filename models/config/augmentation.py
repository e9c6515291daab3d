"""How much augmentation changes the samples of a training step."""

from dataclasses import dataclass
from typing import Annotated

from .limits import Fraction, Range, check_limits


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How much augmentation changes the digits. All values are drawn at random for each sample.

    Attributes:
        shift: largest shift along each axis, as a fraction of the image's side.
        rotation: largest rotation in either direction, in degrees.
        scale: largest change of size: 0.1 scales by a factor of 0.9 to 1.1.
        stretch: largest change of the ratio of width to height: 0.1 changes it by a factor of 0.9
            to 1.1.
        squareness: how far the bounding box of the ink is stretched towards a square: 0 keeps its
            shape, 1 goes all the way for some samples. It imitates data sets in which each digit
            fills its square.
        shear: largest slant, as the tangent of its angle.
        elastic: standard deviation of a smooth random displacement, as a fraction of the side
            (Simard et al., 2003).
        sharpness: how far gray edges of strokes are turned into hard ones, from 0 to 1. It
            imitates data sets of black and white pixels.
        thickness: largest fraction of a pixel by which strokes grow or shrink on each side.

    Raises:
        ValueError: a value is out of range.
    """

    shift: Annotated[float, Fraction()] = 0.0
    rotation: Annotated[float, Range(0, 180)] = 0.0
    scale: Annotated[float, Fraction()] = 0.0
    stretch: Annotated[float, Fraction()] = 0.0
    squareness: Annotated[float, Range(0, 1)] = 0.0
    shear: Annotated[float, Fraction()] = 0.0
    elastic: Annotated[float, Fraction()] = 0.0
    sharpness: Annotated[float, Range(0, 1)] = 0.0
    thickness: Annotated[float, Range(0, 1)] = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self, "augmentation.")


@dataclass(frozen=True, kw_only=True)
class ImageAugmentationConfig:
    """How much augmentation changes images. All numbers are drawn at random for each image.

    Attributes:
        flip: whether half of the images are mirrored, left to right.
        shift: largest shift along each axis, as a fraction of the side; what it uncovers mirrors
            the image.
        scale: largest change of size: 0.1 scales by a factor of 0.9 to 1.1.
        stretch: largest change of the ratio of width to height: 0.1 changes it by a factor of 0.9
            to 1.1.
        brightness: largest change of brightness, as a fraction of the range from black to white.
        contrast: largest change of contrast: 0.1 multiplies it by 0.9 to 1.1.
        saturation: largest change of the distance of colors from gray: 0.1 multiplies it by 0.9
            to 1.1.
        erase: side of a square that is set to the image's mean color, as a fraction of the image's
            side (cutout: DeVries & Taylor, 2017).
        randaugment: magnitude of two random operations, see `RandAugment`; 0.3 is common.
        mixup: parameter a of the distribution Beta(a, a) of the share of another image that is
            mixed in, with its target; 0.2 is common. See `RandomMix`.
        cutmix: parameter a of the distribution Beta(a, a) of the area of a box that is cut from
            another image and pasted, with its target; 1 is common.

    Raises:
        ValueError: a value is out of range.
    """

    flip: bool = False
    shift: Annotated[float, Fraction()] = 0.0
    scale: Annotated[float, Fraction()] = 0.0
    stretch: Annotated[float, Fraction()] = 0.0
    brightness: Annotated[float, Fraction()] = 0.0
    contrast: Annotated[float, Fraction()] = 0.0
    saturation: Annotated[float, Fraction()] = 0.0
    erase: Annotated[float, Fraction()] = 0.0
    randaugment: Annotated[float, Range(0, 1)] = 0.0
    mixup: Annotated[float, Range(0, 100)] = 0.0
    cutmix: Annotated[float, Range(0, 100)] = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self, "augmentation.")
