"""Data: named sources and files, splits that never overlap, tf.data pipelines.

Nothing here knows models, training or runs.
"""
