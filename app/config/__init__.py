"""Configuration: frozen dataclasses, the registry of families, TOML and `key=value` in and out.

Nothing here reads data or builds a model; of `app`, only `app.errors` is imported.
"""

from .run_config import RunConfig, make_config

__all__ = ["RunConfig", "make_config"]
