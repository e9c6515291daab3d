"""A run: its folder, how it is trained from start to end or resumed, and what it leaves.

The training loop itself lives in `app.training`.
"""
