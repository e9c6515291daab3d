"""The training application and the command line, on top of `export`, `models` and `serving`.

Nothing in those three may import it. CONTRIBUTING.md lists its sub-packages; imports between them
run downward only.
"""
