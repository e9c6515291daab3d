"""Studies: how claims about neural networks are tested over many seeds, cached and reported.

Each claim is a module in `app.studies.claims` with a text in `texts/`; docs/studies.md explains how
to add one. The experiment of a single claim does not belong here.
"""
