"""From a finished run to a bundle on disk, and what a bundle is measured by.

What a bundle is belongs to `export` and `serving`; no training happens here.
"""
