"""Programs of a few lines that stand in for TensorFlow in tests of processes alone."""

import sys


def write_program(folder, source, *arguments):
    """Write a Python program into a folder; return the command that runs it."""
    path = folder / "program.py"
    path.write_text(source)
    return [sys.executable, str(path), *map(str, arguments)]
