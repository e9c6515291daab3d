"""Data: named sources and files, splits that never overlap, tf.data pipelines.

Nothing here builds a model, trains or measures one.
"""
