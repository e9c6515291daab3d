"""One module for each claim, each with a `STUDY`.

What several claims share belongs to `app.studies`.
"""
