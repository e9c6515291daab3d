"""Writes a comparison of two models as an HTML page that opens from disk."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.system.atomic_files import atomic_write
from serving.written_numbers import metric_name, write_number, write_percent, write_score

from .comparison_lines import (
    describe_latency,
    describe_mcnemar,
    describe_shift,
    write_difference,
    write_setting,
)
from .evaluation_lines import describe_gaps, describe_methods
from .html import render


def write_comparison_page(
    path: Path, facts: dict[str, Any], labels: tuple[str, ...], pictures: dict[int, np.ndarray]
) -> None:
    """Write a comparison as a page.

    Args:
        path: the file to write; one that exists is replaced when the new one is complete.
        facts: see `app.bundles.comparing.Comparison`.
        labels: labels of the first model.
        pictures: images of examples by the index of the sample, uint8 `(height, width)` or with
            channels at the end.

    Raises:
        OSError: the file cannot be written.
    """
    scores = facts.get("scores", {})
    page = render(
        "comparison.html.j2",
        facts=facts,
        labels=labels,
        scores=scores,
        methods=describe_methods({n: f["first"] for n, f in scores.items()}) if scores else "",
        gaps=describe_gaps(facts),
        mcnemar=describe_mcnemar(facts["mcnemar"]) if "mcnemar" in facts else "",
        calibration=describe_shift(facts["calibration"]) if "calibration" in facts else "",
        latency=describe_latency(facts["latency"]),
        pictures={number: _picture(image) for number, image in pictures.items()},
        metric_name=metric_name,
        write_difference=write_difference,
        write_number=write_number,
        write_percent=write_percent,
        write_score=write_score,
        write_setting=write_setting,
    )
    atomic_write(path, page)


def _picture(image: np.ndarray) -> str:
    """Return an image as the data URI of a PNG."""
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    content = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
