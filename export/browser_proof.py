"""Writes the page that repeats the proof in a browser: `verify.html` of a version."""

import base64
import json
from pathlib import Path

from serving.bundle import BROWSER_PROOF, GOLDEN, MANIFEST, MODEL

_TEMPLATE = Path(__file__).with_name("verify.html")
_EMPTY = '<script type="application/json" id="embedded">{}</script>'
# A page from disk cannot read the files beside it. Those of a small model are inside the page, as
# base64 of 4/3 their size; the folder of a larger model is dropped onto the page.
_MAX_EMBEDDED_BYTES = 2_000_000


def write_browser_proof(folder: Path) -> None:
    """Write `verify.html` into the folder of a version that has all other files but checksums.

    The page runs the golden samples with onnxruntime-web. Graph, manifest and golden samples are
    inside it if they have at most 2 MB; otherwise it asks for the folder.
    """
    paths = [folder / MANIFEST, folder / MODEL, *sorted(folder.glob(f"{GOLDEN[:-1]}*/*.pb"))]
    embedded = {}
    if sum(path.stat().st_size for path in paths) <= _MAX_EMBEDDED_BYTES:
        embedded = {
            path.relative_to(folder).as_posix(): base64.b64encode(path.read_bytes()).decode()
            for path in paths
        }
    page = _TEMPLATE.read_text("utf-8")
    filled = page.replace(_EMPTY, _EMPTY.replace("{}", json.dumps(embedded)))
    (folder / BROWSER_PROOF).write_text(filled, "utf-8")
