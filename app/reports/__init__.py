"""Figures and HTML pages of a run: numbers in, pictures and pages out.

Nothing here trains or measures.
"""
