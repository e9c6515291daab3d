"""The operating system: signals, locks, atomic files, child processes, threads, memory, imports.

Nothing here knows about models or data.
"""
