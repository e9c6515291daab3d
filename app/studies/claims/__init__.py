"""One module for each claim, each with a `STUDY`. What they share lives in `app.studies`."""
