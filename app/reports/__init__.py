"""Figures and HTML pages of a run.

Nothing here trains or measures.
"""
