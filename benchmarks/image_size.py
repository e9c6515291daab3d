"""The size of the container image, without building it: its packages, and the base if it is known.

    python -m benchmarks.image_size

Installs what the `Dockerfile` installs into a temporary folder and packs it, as a layer of an image
is packed. The base is asked for at its registry with `skopeo`, where that can be reached.
"""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGEST_MB = 150


def main() -> None:
    """Measure and print."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    base = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)[-1]
    wanted = re.findall(r"'(\.\[[^']+\])'", dockerfile)[-1]
    with tempfile.TemporaryDirectory() as place:
        _install(wanted, Path(place))
        unpacked = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
        packed = _pack(Path(place))
    print(f"{wanted}, Python {sys.version_info[0]}.{sys.version_info[1]}:")
    print(f"  packages      {packed / 1e6:6.1f} MB packed, {unpacked / 1e6:6.1f} MB unpacked")
    known = _base_size(base)
    if known is None:
        print(f"  {base}  unknown here; it may have {LARGEST_MB - packed / 1e6:.1f} MB packed")
    else:
        print(f"  {base}  {known / 1e6:6.1f} MB packed")
        print(f"  together      {(known + packed) / 1e6:6.1f} MB packed, of {LARGEST_MB} MB")


def _install(wanted: str, place: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    options = ["--constraint", "constraints.txt", "--target", str(place)]
    subprocess.run([*pip, *options, wanted], check=True, cwd=ROOT)


def _pack(place: Path) -> int:
    """Return the size of a folder as a layer: a tar file, compressed with gzip."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=6) as archive:
        archive.add(place, arcname="layer")
    return content.tell()


def _base_size(image: str) -> int | None:
    """Return the size of an image's layers in its registry; None if it cannot be asked."""
    if shutil.which("skopeo") is None:
        return None
    command = ["skopeo", "--command-timeout=30s", "--override-os=linux", "--override-arch=amd64"]
    command += ["inspect", f"docker://docker.io/library/{image}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    return sum(int(layer["Size"]) for layer in json.loads(found.stdout)["LayersData"])


if __name__ == "__main__":
    main()
