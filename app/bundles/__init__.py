"""From a finished run to a bundle on disk, and the comparison of its runtimes.

The format of a bundle belongs to `export` and `serving`; no training happens here.
"""
