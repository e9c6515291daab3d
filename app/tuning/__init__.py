"""Hyperparameter search: search spaces, trials, workers that share a study, results and report."""
