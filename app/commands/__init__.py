"""The command line: one module for each command, which imports what it needs when it is called.

Options, messages and exit statuses live here; the work itself is done in the packages below.
"""
