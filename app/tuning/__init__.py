"""Hyperparameter search: spaces, samplers, trials, the workers that share a search, and the report.

How a single model is trained belongs to `app.training` and `app.runs`.
"""
