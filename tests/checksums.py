"""Updates the checksums of a bundle that a test has changed."""

import hashlib


def write_checksums(folder):
    """Write `SHA256SUMS` for all other files in a version's folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
