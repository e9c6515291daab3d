"""The training application and the command line, on top of `export`, `models` and `serving`.

Nothing below may import it. Its rooms are listed in CONTRIBUTING.md; imports between them run
downward only.
"""
