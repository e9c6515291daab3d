"""Studies: claims about neural networks, each tested on the project's own models and training.

A study is a module with a `STUDY` and a text of the same name in `texts/`; docs/studies.md says how
to add one.
"""
