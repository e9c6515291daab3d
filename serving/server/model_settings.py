"""`serving.toml`: settings of single models, in the folder that is served.

```toml
[models.digits]
versions = [2, 3]
labels = { stable = 2, canary = 3 }
threads = 2
max_batch_rows = 64
max_delay_ms = 2
max_rows = 1000
```
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import InputError, cannot_read, first_few
from .model_folder import ModelFolder

FILE = "serving.toml"
# With a character that is no digit, so that no label looks like a version.
_LABEL = re.compile(r"(?!\d+$)[A-Za-z0-9._-]{1,100}")
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of one model; None leaves the choice to the server's own.

    Attributes:
        versions: versions to serve, and no others.
        labels: version that each label stands for. It is served too.
        threads: number of processors that one call may use.
        max_batch_rows: largest number of samples in a batch of several requests.
        max_delay_ms: latency budget for a batch, in milliseconds.
        max_rows: largest number of samples in a request, below that of the server.
    """

    versions: Annotated[tuple[_Number, ...], msgspec.Meta(min_length=1)] | None = None
    labels: dict[str, _Number] = {}
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    max_batch_rows: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] | None = None
    max_delay_ms: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] | None = None

    @property
    def of_loading(self) -> "ModelSettings":
        """The settings with which a version is loaded; when they change, it is loaded anew."""
        return msgspec.structs.replace(self, versions=None, labels={})


DEFAULTS = ModelSettings()
_KEYS = ", ".join(ModelSettings.__struct_fields__)


def read_model_settings(folder: ModelFolder) -> Mapping[str, ModelSettings]:
    """Read `serving.toml` in a folder; return the settings of each model that it names.

    Args:
        folder: folder that is served. Without the file, no model has settings of its own.

    Raises:
        InputError: the file cannot be read, has an unknown key or a value of another kind, or
            names a model or a version that is not there.
    """
    path = folder.path / FILE
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(cannot_read(path, error, "TOML")) from None
    tables = content.pop("models", {})
    if content or not isinstance(tables, dict):
        raise InputError(
            f"{path} must have a table [models.NAME] for each model. "
            f"Received: {first_few(sorted(content) or ['models, of another kind'])}."
        )
    found = {name: _convert(path, name, table) for name, table in tables.items()}
    present = folder.models() if found else {}
    for name, settings in found.items():
        _check_versions(path, name, settings, present.get(name, []))
    return found


def _convert(path: Path, name: str, table: Any) -> ModelSettings:
    try:
        settings = msgspec.convert(table, ModelSettings)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path} must have tables [models.NAME] with {_KEYS}. "
            f"Received in [models.{name:.80}]: {str(error)[0].lower()}{str(error)[1:]}."
        ) from None
    wrong = [label for label in settings.labels if not _LABEL.fullmatch(label)]
    if wrong:
        raise InputError(
            f"A label in {path} must have letters, digits, dots, hyphens and underscores, and not "
            f"only digits. Received: {wrong[0]!r:.80}."
        )
    return settings


def _check_versions(path: Path, name: str, settings: ModelSettings, present: list[int]) -> None:
    if not present:
        raise InputError(
            f"{path} must name models that are in the folder. Received: [models.{name:.80}]."
        )
    pinned = settings.versions or ()
    for what, number in [("versions", n) for n in pinned] + [*settings.labels.items()]:
        if number not in present:
            raise InputError(
                f"{path} must name versions of {name} that are in the folder: "
                f"{first_few(present)}. Received: {what} = {number}."
            )
    for label, number in settings.labels.items():
        if pinned and number not in pinned:
            raise InputError(
                f"{path} must give labels of {name} to its versions = {list(pinned)}. "
                f"Received: {label} = {number}."
            )
