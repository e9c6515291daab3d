"""Training by several processes, on one machine or many: they are launched, joined and watched.

Nothing here knows what is trained or where it is written; that belongs to `app.runs`.
"""
