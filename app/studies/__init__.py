"""Studies: claims about neural networks, each tested with the project's own models and training.

Each study is a module in `claims/` with a `STUDY`, and a text of the same name in `texts/`. What
the studies share lives here; models, layers and training itself do not. docs/studies.md says how
to add a study.
"""
