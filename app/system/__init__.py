"""The operating system: signals, locks, atomic files, threads, memory, how TensorFlow is imported.

Nothing here knows about models or data.
"""
