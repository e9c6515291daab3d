"""The command line: one module for each command, each importing what it needs when it is called.

Options, messages and exit statuses live here; the work itself lives in the rooms below.
"""
