"""Metrics, calibration, and estimates with intervals: numbers in, numbers out.

Nothing here trains, draws or writes files.
"""
