"""Training in several processes on one or more machines: how they are started, connected and
watched.

Nothing here knows what is trained or where it is written; that belongs to `app.runs`.
"""
