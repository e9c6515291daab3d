"""One module for each claim, each with a `STUDY`.

What several claims share lives in `app.studies`; nothing else lives here.
"""
