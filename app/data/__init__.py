"""Data: named sources and files, splits that never overlap, tf.data pipelines."""
