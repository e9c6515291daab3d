"""Makes a bundle that a test has changed pass the check of its files again."""

import hashlib


def write_checksums(folder):
    """Write `SHA256SUMS` over every other file of a version's folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
