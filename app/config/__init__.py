"""Configuration: frozen dataclasses, the registry of families, parsing of TOML and `key=value`.

Nothing here reads data or trains; from `app`, only `app.errors` is imported.
"""

from .run_config import RunConfig, make_config

__all__ = ["RunConfig", "make_config"]
