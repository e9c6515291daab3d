"""Training in several processes: how they are started, connected, watched and ended.

Nothing here knows what is trained or where it is written; that belongs to `app.runs`.
"""
