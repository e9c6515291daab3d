"""Configuration: frozen dataclasses, the registry of families, TOML and `key=value` in and out.

Nothing here reads data or builds a model; of `app`, only `app.errors` is imported.
"""
