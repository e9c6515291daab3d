"""Accuracy of a digit net on photographs, compared with the original digits.

    HORNBILL_DATA=… python -m benchmarks.photographs dist/digits

The bundle is that of `hornbill train digits --data mnist.npz --set epochs=4`.

Each photograph is synthesized from a digit of MNIST's test set: the digit is enlarged, drawn in
dark ink or chalk with a thick or thin pen, and placed anywhere on a page with a shadow and grain,
and for some kinds with ruled lines or a table behind. The image is rotated with an EXIF tag and
compressed as JPEG. The accuracy of `Predictor.predict_images` is compared with the accuracy on the
original digits, and with the accuracy when the whole photograph is shrunk.

Then photographs of one megapixel in color are read on one thread, as JPEG and as PNG. Pillow's
decoding alone, reading and finding the digit, and the net take turns. Goal for JPEG: at most 10 ms
for all that comes before the net. What PNG takes beyond that is its decompression.
"""

import argparse
import io
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from app.system.data_folders import require_data
from benchmarks.arguments import bundle_argument
from benchmarks.results import write_results
from serving import Prediction, Predictor
from serving.images import read_image
from serving.inputs import read_model_image
from serving.timing import median_ms

COUNT = 300
PHOTOGRAPHS = 3  # of each kind, to be timed
SHAPE = (28, 28)
_KINDS = ("page", "chalk", "ruled", "table")


def photograph(digit: np.ndarray, kind: str, rng: np.random.Generator) -> bytes:
    """Return the JPEG of a digit, uint8 `(28, 28)` with bright ink, on the given kind of page."""
    height, width = rng.integers(700, 1300, 2)
    ink = _draw_ink(digit, int(rng.integers(150, min(height, width) // 2)), kind, rng)
    layer = np.zeros((height, width), np.float32)
    top, left = (rng.integers(0.1 * side, 0.9 * side - len(ink)) for side in (height, width))
    layer[top : top + len(ink), left : left + len(ink)] = ink * rng.uniform(0.5, 0.9)
    if kind == "ruled":
        for row in range(int(rng.integers(20, 60)), height, int(rng.integers(50, 90))):
            layer[row : row + 2] = np.maximum(layer[row : row + 2], 0.15)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * x + np.sin(angle) * y) / max(height, width)
    light = 1 - rng.uniform(0, 0.5) / (1 + np.exp(-rng.uniform(3, 15) * (slope - np.median(slope))))
    paper = np.full_like(layer, rng.uniform(0.75, 0.95))
    if kind == "table":
        edge = int(0.05 * width)
        paper[:, :edge] = paper[: int(0.04 * height)] = rng.uniform(0.2, 0.4)
    gray = paper * (1 - layer)
    if kind == "chalk":
        gray = 0.25 + 0.7 * layer
    noisy = gray * light + rng.normal(0, rng.uniform(0.005, 0.03), layer.shape)
    image = Image.fromarray(np.rint(255 * noisy.clip(0, 1)).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
    # As from a camera held sideways: the pixels are rotated, and an EXIF tag says so.
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(file, "JPEG", quality=int(rng.integers(40, 95)), exif=exif)
    return file.getvalue()


def _draw_ink(digit: np.ndarray, side: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return anti-aliased ink from 0 to 1, float32 `(side, side)`."""
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    # A higher threshold makes a thinner pen.
    threshold = rng.uniform(90, 200)
    ink = np.asarray(large, np.float32)
    sharp = 1 / (1 + np.exp(-(ink - threshold) / 12))
    grain = rng.uniform(0.6, 1, sharp.shape) if kind == "chalk" else 1.0
    written: np.ndarray = sharp * grain
    return written


def main() -> None:
    """Measure all three accuracies for every kind of page, and the time of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", type=bundle_argument)
    parser.add_argument("--pictures", type=Path, help="Write some of the photographs here.")
    arguments = parser.parse_args()
    with np.load(require_data("mnist.npz")) as arrays:
        digits, targets = arrays["x_test"][:COUNT], arrays["y_test"][:COUNT]
    predictor = Predictor.load(arguments.bundle)
    config = predictor.manifest.config
    net = f"{config.get('family')} of {config.get('data')}, {config.get('epochs')} epochs"

    def accuracy(prediction: Prediction) -> float:
        return float((prediction.probabilities.argmax(axis=1) == targets).mean())

    original = accuracy(predictor.predict(digits))
    rows: list[dict[str, Any]] = []
    for kind in _KINDS:
        rng = np.random.default_rng(0)
        files = [photograph(digit, kind, rng) for digit in digits]
        read = accuracy(predictor.predict_images(files))
        shrunk = accuracy(predictor.predict([read_image(file, SHAPE) for file in files]))
        print(f"{kind:6} {read:.1%}, shrunk {shrunk:.1%}, original digits {original:.1%}")
        row = {
            "what": kind,
            "net": net,
            "samples": COUNT,
            "accuracy": read,
            "accuracy_of_shrunk_photograph": shrunk,
            "accuracy_on_originals": original,
        }
        rows.append(row)
        _write_examples(arguments.pictures, kind, files)
    for form in ("JPEG", "PNG"):
        rows.append(latency(predictor, digits[: len(_KINDS) * PHOTOGRAPHS], form))
        print(rows[-1])
    write_results("photographs", rows)


def latency(predictor: Predictor, digits: np.ndarray, form: str) -> dict[str, Any]:
    """Return the median ms of each part of the prediction of a photograph, as a row of results."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for digit, kind in zip(digits, _KINDS * PHOTOGRAPHS, strict=False):
        with Image.open(io.BytesIO(photograph(digit, kind, rng))) as image:
            file = io.BytesIO()
            image.resize((1000, 1000)).convert("RGB").save(file, form)
        content = file.getvalue()
        pixels = read_model_image(content, predictor.manifest)[np.newaxis]
        calls: dict[str, Callable[[], object]] = {
            "decode": partial(_decode, content),
            "read": partial(read_model_image, content, predictor.manifest),
            "net": partial(predictor.predict, pixels),
        }
        for name, milliseconds in median_ms(calls, 40).items():
            found.setdefault(name, []).append(milliseconds)
    medians = {name: round(statistics.median(each), 3) for name, each in found.items()}
    return {"what": f"one megapixel as {form}", "ms": medians}


def _decode(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as image:
        image.load()


def _write_examples(folder: Path | None, kind: str, files: list[bytes]) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files[:8]):
        (folder / f"{kind}-{number}.jpg").write_bytes(file)


if __name__ == "__main__":
    main()
