"""Hyperparameter search: spaces, samplers, trials, workers that share a study, and its report.

How one model is trained belongs to `app.training` and `app.runs`.
"""
