"""Runs a search: creates its folder, runs trials in workers, and ends it."""

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from app.config.chosen_defaults import choose_defaults
from app.config.run_config import flat_config
from app.data.datasets import Dataset
from app.data.frames import data_on_disk, move_data
from app.data.sources import absolute_source
from app.data.splits import split_dataset
from app.errors import DataError, TuningError
from app.runs.run_folder import new_run_folder, unwritable
from app.runs.train import Callbacks, checked_model, load_run_data
from app.system.addresses import without_credentials
from app.system.locks import exclusive_lock
from app.system.signals import Interrupted
from app.training.model_sizes import image_size_taken
from app.training.preprocessing import adapt

from .default_space import default_space
from .definition import Definition, check_effects, checked, definition_toml
from .finishing import TuningResult, finish, join_hint
from .local_workers import run_workers
from .report import (
    REPORT,
)
from .samplers import grid, make_sampler
from .search_space import parse_space, place_settings
from .storage import (
    JOURNAL,
    StudyLocation,
    absolute_address,
    check_address,
    create_study,
    require_file,
)
from .trial_loop import (
    BEGUN,
    DATA,
    DEFINITION,
    TASK,
    OnProgress,
    ignore_progress,
    may_begin,
    open_study,
    requeue_stale_trials,
)
from .trials import make_trial_data

SPACE = "space.toml"
# File with the value that `--join` takes for a search in a database, without the password.
ADDRESS = "search.txt"
_JOURNAL_NAME = "study"
_POLL_S = 1.0


def _hide_search(
    study: optuna.Study,  # noqa: ARG001
    definition: Definition,  # noqa: ARG001
) -> contextlib.nullcontext[OnProgress]:
    return contextlib.nullcontext(ignore_progress)


def _hide_refit() -> contextlib.nullcontext[Callbacks]:
    return contextlib.nullcontext(())


@dataclass(frozen=True)
class Observer:
    """Shows the progress of a search and of its refit; by default nothing is shown.

    Attributes:
        search: called with the Optuna study and its definition; returns a context manager around
            the trials, which yields a function to call after each epoch and each trial.
        refit: returns a context manager around the refit, which yields Keras callbacks.
    """

    search: Callable[[optuna.Study, Definition], contextlib.AbstractContextManager[OnProgress]] = (
        _hide_search
    )
    refit: Callable[[], contextlib.AbstractContextManager[Callbacks]] = _hide_refit


SILENT = Observer()


def tune(
    definition: Definition,
    output: str | Path = "tunes",
    workers: int = 1,
    storage: str | None = None,
    observer: Observer = SILENT,
) -> TuningResult:
    """Search, refit the best trial, and write `<output>/<family>/<time>`.

    After an error in the space, the data or the storage, no folder is left behind. After an
    interruption, `join` resumes the search.

    Args:
        definition: what to search, see `make_definition`.
        output: folder of searches.
        workers: number of trials to run at the same time.
        storage: URL of a database; None keeps a journal in the folder.
        observer: shows the progress.

    Returns:
        The finished search.

    Raises:
        DataError: the data cannot be used.
        ConfigError: head, loss and targets contradict each other.
        TuningError: the space does not suit the method, the storage does not respond, or no trial
            finished.
        RunError: the folder cannot be written, or the refit failed; then `join` trains it again.

    Examples:
        >>> tune(make_definition("features", {}, {"trials": 20})).search.best.settings
        >>> space = {"optimizer.learning_rate": "log:1e-4..1e-1", "hidden": "choice:64|64,64"}
        >>> tune(make_definition("features", space, {"trials": 20})).search.best.settings
    """
    if storage is not None:
        check_address(storage)
        storage = absolute_address(storage)
    data, dropped = definition.base.data, definition.base.reading.drop
    with data_on_disk(data, dropped) as found:
        if found.stream is not None:
            raise DataError(
                "A search splits its data itself. Received: pipelines for train, validation and "
                "test. Give arrays (x, y), or a single dataset of (x, y)."
            )
        definition = replace(definition, base=replace(definition.base, data=found.source))
        return _tune(definition, Path(output), workers, storage, observer, found.is_written)


def _tune(
    definition: Definition,
    output: Path,
    workers: int,
    storage: str | None,
    observer: Observer,
    is_written: bool,
) -> TuningResult:
    """Search with data on disk; data that was written for the search is moved into its folder."""
    dataset = load_run_data(definition.base, image_size_taken(definition.base))
    is_default = not definition.space
    definition = _settle(definition, dataset)
    first = place_settings(definition.space, flat_config(definition.base)) if is_default else None
    folder = new_run_folder(output, definition.base.family)
    name = f"{definition.base.family}-{folder.name}" if storage else _JOURNAL_NAME
    location = StudyLocation(storage or str(folder / JOURNAL), name)
    try:
        if is_written:
            source = move_data(definition.base.data, folder)
            definition = replace(definition, base=replace(definition.base, data=source))
        study = _begin(location, definition, dataset, first)
        _write_begun(folder, definition, location)
    except OSError as error:
        shutil.rmtree(folder)
        raise unwritable(folder, error) from None
    except BaseException:
        shutil.rmtree(folder)
        raise
    with _finish_lock(folder), _interruptible(str(folder)):
        _search(location, workers, observer)
        return finish(folder, study, definition, observer.refit)


def join(
    where: str,
    workers: int = 1,
    storage: str | None = None,
    declared: Mapping[str, str] | None = None,
    observer: Observer = SILENT,
) -> TuningResult | None:
    """Run trials of an existing search, and finish the search if no other process does.

    Args:
        where: folder of a search, or `URL#NAME` in a database.
        workers: number of trials to run at the same time.
        storage: URL of the folder's database, with its password; None takes the one in the folder.
        declared: search space that the search must have; empty accepts any.
        observer: shows the progress.

    Returns:
        The finished search. None if another process writes its results: the process that started
        the search and is still running, or, for a URL, the process that has the folder.

    Raises:
        DataError: the data cannot be read.
        TuningError: the search does not exist, has another space or other data, or its storage does
            not respond.
    """
    location, folder = find_study(where, storage)
    study, definition = open_study(location)
    _check_space(definition, declared or {})
    with _interruptible(where if folder else str(location.without_password)):
        _search(location, workers, observer, first=secrets.randbelow(2**32))
        if folder is None or (folder / REPORT).exists():
            return None
        try:
            with _finish_lock(folder):
                if (folder / REPORT).exists():  # another process was faster
                    return None
                return finish(folder, study, definition, observer.refit)
        except _TakenError:
            return None


def find_study(where: str, storage: str | None = None) -> tuple[StudyLocation, Path | None]:
    """Return where a search is stored, and its folder, which is None for `URL#NAME`.

    Raises:
        TuningError: `where` is neither a folder of `hornbill tune` nor `URL#NAME`, or
            `storage` is not a URL.
    """
    if storage is not None:
        check_address(storage)
    if "://" in where:
        if storage is not None:
            raise TuningError(
                f"--storage can only be used with the folder of a search. "
                f"Received: {without_credentials(where)!r}."
            )
        address, _, name = where.rpartition("#")
        if not address or not name:
            raise TuningError(
                f"A search in a database must be given as URL#NAME. "
                f"Received: {without_credentials(where)!r}."
            )
        require_file(address)
        return StudyLocation(address, name), None
    folder = Path(where)
    if not (folder / SPACE).is_file():
        raise TuningError(
            f"--join must be a folder that hornbill tune made, or URL#NAME. Received: {where}."
        )
    if not (folder / ADDRESS).is_file():
        return StudyLocation(str(folder / JOURNAL), _JOURNAL_NAME), folder
    address, _, name = (folder / ADDRESS).read_text("utf-8").strip().rpartition("#")
    return StudyLocation(storage or address, name), folder


def _settle(definition: Definition, dataset: Dataset) -> Definition:
    """Check that the definition can be searched; fix what must not differ between workers."""
    training = definition.base.training
    if training.precision == "auto":  # concurrent trials cannot be timed and must compute alike
        training = replace(training, precision="float32")
    source = absolute_source(definition.base.data)
    base = replace(definition.base, data=source, training=training)
    refit = split_dataset(dataset, base.seed, base.training.validation_split)
    base = choose_defaults(base, len(refit.train), dataset.sample_shape, dataset.averaged_labels)
    check_effects(replace(definition, base=base))
    if not definition.space:
        definition = _with_default_space(replace(definition, base=base), dataset.kind)
    data = make_trial_data(base, dataset, definition.budget.folds)
    checked_on = [(data.dataset, part) for part in data.parts]
    if definition.budget.folds > 1:
        checked_on.append((dataset, refit))
    for samples, part in checked_on:
        adapt(checked_model(base, samples, part), samples, part.train)
    make_sampler(definition, base.seed)
    budget = definition.budget
    if budget.method == "grid":
        points = len(grid(definition))
        budget = replace(budget, trials=min(budget.trials or points, points))
    return replace(definition, base=base, budget=budget)


def _with_default_space(definition: Definition, kind: str) -> Definition:
    found = default_space(definition.base, kind)
    declared = {key: text for key, text in found.items() if key not in definition.fixed}
    if not declared:
        raise TuningError(
            "A search needs at least one setting. "
            f"Received: fixed values of all that is searched by default, {', '.join(found)}. "
            "Add a setting, such as --search optimizer.learning_rate=log:1e-4..1e-1."
        )
    return checked(replace(definition, space=parse_space(declared, definition.base)))


def _begin(
    location: StudyLocation,
    definition: Definition,
    dataset: Dataset,
    first: dict[str, Any] | None,
) -> optuna.Study:
    """Create the study; `first` are the values of the first trial, None lets the method choose."""
    attributes = {
        DEFINITION: definition_toml(definition),
        DATA: dataset.sha256(),
        TASK: dataset.task,
        BEGUN: time.time(),
    }
    study = create_study(location, attributes)
    points = [] if first is None else [first]
    points += grid(definition) if definition.budget.method == "grid" else []
    for point in points[: definition.budget.trials]:
        study.enqueue_trial(point)  # each point is taken once, by any worker
    return study


def _write_begun(folder: Path, definition: Definition, location: StudyLocation) -> None:
    (folder / SPACE).write_text(definition_toml(definition), "utf-8")
    if location.is_database:
        (folder / ADDRESS).write_text(f"{location.without_password}\n", "utf-8")


def _check_space(definition: Definition, declared: Mapping[str, str]) -> None:
    own = {field.key: field.text for field in definition.space}
    if declared and dict(declared) != own:
        raise TuningError(
            f"A search can only be joined with its own space, {_format_space(own)}. "
            f"Received: {_format_space(declared)}. Leave --search out, or start another search."
        )


def _format_space(declared: Mapping[str, str]) -> str:
    return " ".join(f"{key}={text}" for key, text in declared.items())


def _search(location: StudyLocation, workers: int, observer: Observer, first: int = 0) -> None:
    study, definition = open_study(location)
    with observer.search(study, definition) as on_progress:
        run_workers(location, workers, on_progress, first)
        # Other workers may still be running trials. If one dies, its values are queued again.
        while _has_running_trials(study) or may_begin(study, definition):
            if may_begin(study, definition):
                run_workers(location, workers, on_progress, first)
            else:
                time.sleep(_POLL_S)
                on_progress()


def _has_running_trials(study: optuna.Study) -> bool:
    requeue_stale_trials(study)
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


@contextlib.contextmanager
def _interruptible(where: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(join_hint(where)) from None


class _TakenError(TuningError):
    """Another process is finishing the search."""


def _finish_lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other processes from finishing the search."""
    taken = _TakenError(f"Another process is finishing this search. Received: {folder}.")
    return exclusive_lock(folder, taken, lambda error: unwritable(folder, error))
