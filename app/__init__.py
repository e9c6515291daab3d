"""The training application and the command line."""
