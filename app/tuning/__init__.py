"""Searches settings: spaces, trials, workers that share a study, and what came out."""
