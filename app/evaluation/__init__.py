"""Metrics, calibration, and estimates with intervals.

Nothing here trains, draws or writes files.
"""
