"""One module per claim, each with a `STUDY`. Code that several claims share is in `app.studies`."""
