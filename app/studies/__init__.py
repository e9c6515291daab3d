"""Studies: how claims about neural networks are tested over many seeds, cached and reported.

Each claim is a module in `app.studies.claims` with a text in `texts/`; docs/studies.md says how to
add one. No claim's own experiment lives here.
"""
