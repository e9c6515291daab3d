"""How much augmentation changes the samples of a training step."""

from dataclasses import dataclass

from models.checks import check_fraction, check_range

_FRACTIONS = ("shift", "scale", "stretch", "brightness", "contrast", "saturation", "erase")


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

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    squareness: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    sharpness: float = 0.0
    thickness: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("shift", "scale", "stretch", "shear", "elastic"):
            check_fraction(f"augmentation.{name}", getattr(self, name))
        check_range("augmentation.squareness", self.squareness, 0, 1)
        check_range("augmentation.sharpness", self.sharpness, 0, 1)
        check_range("augmentation.rotation", self.rotation, 0, 180)
        check_range("augmentation.thickness", self.thickness, 0, 1)


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
    shift: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0
    randaugment: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in _FRACTIONS:
            check_fraction(f"augmentation.{name}", getattr(self, name))
        check_range("augmentation.randaugment", self.randaugment, 0, 1)
        for name in ("mixup", "cutmix"):
            check_range(f"augmentation.{name}", getattr(self, name), 0, 100)
