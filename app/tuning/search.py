"""From a definition to a finished study: its folder, its workers, its results and the refit."""

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import optuna
from optuna.trial import TrialState

from app.config.run_config import config_toml
from app.data.datasets import Dataset
from app.data.sources import absolute_source
from app.data.splits import split_dataset
from app.distributed.team import Team
from app.errors import RunError, TuningError
from app.runs.run_folder import Run, new_run_folder, unwritable
from app.runs.train import Callbacks, checked_model, load_run_data, train
from app.system.locks import exclusive_lock
from app.system.signals import Interrupted
from app.training.preprocessing import adapt

from .definition import Definition, definition_toml
from .local_workers import run_workers
from .report import REPORT, write_results
from .results import SearchResult, read_search_result
from .samplers import grid, make_sampler
from .storage import (
    JOURNAL,
    StudyLocation,
    absolute_address,
    check_address,
    create_study,
    require_file,
)
from .trial_loop import BEGUN, DATA, DEFINITION, Watch, may_begin, open_study, requeue_stale_trials
from .trials import make_trial_data

SPACE, BEST, REFIT = "space.toml", "best.toml", "refit"
# Of a search that lies in a database: what `--join` takes, without a password.
STUDY = "study.txt"
_JOURNAL_NAME = "study"
# Of the refit: enough points to see whether its score still rises.
_SHARES = (0.1, 0.25, 0.5)
_POLL_S = 1.0


def _no_callbacks() -> contextlib.nullcontext[Callbacks]:
    return contextlib.nullcontext(())


@dataclass(frozen=True)
class Show:
    """Whom to tell.

    Attributes:
        search: gives what is told of a study's trials.
        refit: gives what is passed to `keras.Model.fit` of the refit.
    """

    search: Callable[[optuna.Study, Definition], contextlib.AbstractContextManager[Watch]]
    refit: Callable[[], contextlib.AbstractContextManager[Callbacks]] = _no_callbacks


def _silent(study: optuna.Study, definition: Definition) -> contextlib.nullcontext[Watch]:  # noqa: ARG001
    return contextlib.nullcontext(Watch())


SILENT = Show(_silent)


@dataclass(frozen=True)
class TuningResult:
    """A finished search.

    Attributes:
        folder: with everything about it.
        found: its trials, the best and its settings.
        refit: the run of the best settings; its test split is what no trial has seen.
        readings: what the learning curves say.
    """

    folder: Path
    found: SearchResult
    refit: Run
    readings: tuple[str, ...]


def tune(
    definition: Definition,
    output: str | Path = "tunes",
    workers: int = 1,
    storage: str | None = None,
    show: Show = SILENT,
) -> TuningResult:
    """Search, refit the best, and write `<output>/<family>/<time>`.

    Args:
        definition: what is searched, see `make_definition`.
        output: folder of searches.
        workers: trials that run side by side.
        storage: address of a database; None keeps a journal in the folder.
        show: whom to tell.

    Returns:
        The finished search. What is wrong with space, data or storage is found before a folder is
        left behind; after an interruption `join` goes on.

    Raises:
        DataError: the data cannot be used.
        ConfigError: head, loss and targets contradict each other.
        TuningError: the space does not suit the method, the storage does not answer, or no trial
            came to its end.
        RunError: the folder cannot be written.

    Examples:
        >>> space = {"optimizer.learning_rate": "log:1e-4..1e-1", "hidden": "choice:64|64,64"}
        >>> tune(make_definition("features", space, {"trials": 20})).found.best.settings
    """
    if storage is not None:
        check_address(storage)
        storage = absolute_address(storage)
    dataset = load_run_data(definition.base)
    definition = _settle(definition, dataset)
    folder = new_run_folder(Path(output), definition.base.family)
    name = f"{definition.base.family}-{folder.name}" if storage else _JOURNAL_NAME
    place = StudyLocation(storage or str(folder / JOURNAL), name)
    try:
        study = _begin(place, definition, dataset)
        _write_begun(folder, definition, place)
    except OSError as error:
        shutil.rmtree(folder)
        raise unwritable(folder, error) from None
    except BaseException:
        shutil.rmtree(folder)
        raise
    with _alone(folder), _interruptible(str(folder)):
        _search(place, workers, show)
        return _finish(folder, study, definition, show)


def join(
    where: str,
    workers: int = 1,
    storage: str | None = None,
    declared: Mapping[str, str] | None = None,
    show: Show = SILENT,
) -> TuningResult | None:
    """Work for a study that is there, and finish it if nobody else will.

    Args:
        where: folder of a search, or `ADDRESS#NAME` in a database.
        workers: trials that run side by side.
        storage: address of the folder's database, with its password; None takes the folder's.
        declared: what the caller believes to be searched; empty asks nothing.
        show: whom to tell.

    Returns:
        The finished search, or None where its results are another process' to write: the one
        that began it and still runs, or for an address the one with the folder.

    Raises:
        DataError: the data cannot be read.
        TuningError: there is no such study, it searches another space, its data are others, or
            its storage does not answer.
    """
    place, folder = find_study(where, storage)
    study, definition = open_study(place)
    _check_space(definition, declared or {})
    with _interruptible(where):
        _search(place, workers, show, first=secrets.randbelow(2**32))
        if folder is None or (folder / REPORT).exists():
            return None
        try:
            with _alone(folder):
                if (folder / REPORT).exists():  # another process was faster
                    return None
                return _finish(folder, study, definition, show)
        except _TakenError:
            return None


def find_study(where: str, storage: str | None = None) -> tuple[StudyLocation, Path | None]:
    """Return where a study lies, and its folder if it was named by that.

    Raises:
        TuningError: it is neither a folder of `hornbill tune` nor `ADDRESS#NAME`, or `storage` is
            no address.
    """
    if storage is not None:
        check_address(storage)
    if "://" in where:
        if storage is not None:
            raise TuningError(f"--storage goes with the folder of a search. Received: {where!r}.")
        address, _, name = where.rpartition("#")
        if not address or not name:
            raise TuningError(f"A study in a database is ADDRESS#NAME. Received: {where!r}.")
        require_file(address)
        return StudyLocation(address, name), None
    folder = Path(where)
    if not (folder / SPACE).is_file():
        raise TuningError(
            f"A study must be a folder that hornbill tune made, or ADDRESS#NAME. Received: {where}."
        )
    if not (folder / STUDY).is_file():
        return StudyLocation(str(folder / JOURNAL), _JOURNAL_NAME), folder
    address, _, name = (folder / STUDY).read_text("utf-8").strip().rpartition("#")
    return StudyLocation(storage or address, name), folder


def _settle(definition: Definition, dataset: Dataset) -> Definition:
    """Refuse what cannot be searched, and return the definition that every worker can read."""
    training = definition.base.training
    if training.precision == "auto":  # trials side by side cannot be timed, and must be alike
        training = replace(training, precision="float32")
    data = absolute_source(definition.base.data)
    base = replace(definition.base, data=data, training=training)
    material = make_trial_data(base, dataset, definition.budget.folds)
    refit = split_dataset(dataset, base.seed, base.training.validation_split)
    for part in (*material.parts, *([refit] if definition.budget.folds > 1 else ())):
        adapt(checked_model(base, dataset, part), dataset, part.train)
    make_sampler(definition, base.seed)
    budget = definition.budget
    if budget.method == "grid":
        points = len(grid(definition))
        budget = replace(budget, trials=min(budget.trials or points, points))
    return replace(definition, base=base, budget=budget)


def _begin(place: StudyLocation, definition: Definition, dataset: Dataset) -> optuna.Study:
    notes = {
        DEFINITION: definition_toml(definition),
        DATA: dataset.sha256(),
        BEGUN: time.time(),
    }
    study = create_study(place, notes)
    for point in grid(definition) if definition.budget.method == "grid" else ():
        study.enqueue_trial(point)  # each is taken once, whoever takes it
    return study


def _write_begun(folder: Path, definition: Definition, place: StudyLocation) -> None:
    (folder / SPACE).write_text(definition_toml(definition), "utf-8")
    if place.is_database:
        (folder / STUDY).write_text(f"{replace(place, address=place.shown)}\n", "utf-8")


def _check_space(definition: Definition, declared: Mapping[str, str]) -> None:
    there = {field.key: field.text for field in definition.space}
    if declared and dict(declared) != there:
        raise TuningError(
            f"A study is joined with its own space, {_spelled(there)}. "
            f"Received: {_spelled(declared)}. Leave --search out, or begin a study of its own."
        )


def _spelled(declared: Mapping[str, str]) -> str:
    return " ".join(f"{key}={text}" for key, text in declared.items())


def _search(place: StudyLocation, workers: int, show: Show, first: int = 0) -> None:
    study, definition = open_study(place)
    with show.search(study, definition) as watch:
        run_workers(place, workers, watch, first)
        # Somebody works elsewhere, or died, which the heartbeat will tell: then values wait again.
        while _somebody_works(study) or may_begin(study, definition):
            if may_begin(study, definition):
                run_workers(place, workers, watch, first)
            else:
                time.sleep(_POLL_S)
                watch.after_epoch()


def _somebody_works(study: optuna.Study) -> bool:
    requeue_stale_trials(study)
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _finish(folder: Path, study: optuna.Study, definition: Definition, show: Show) -> TuningResult:
    """Write the best settings, refit them, and write the report, which says that all is there.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        return _write_finished(folder, study, definition, show)
    except OSError as error:
        mend = f"Go on with: hornbill tune --join {quote(str(folder))}"
        raise RunError(f"{unwritable(folder, error)} {mend}") from None


def _write_finished(
    folder: Path, study: optuna.Study, definition: Definition, show: Show
) -> TuningResult:
    found = read_search_result(study, definition)
    (folder / BEST).write_text(config_toml(found.config), "utf-8")
    shutil.rmtree(folder / REFIT, ignore_errors=True)  # of a process that was stopped in it
    shares = found.config.training.train_sizes or _SHARES
    training = replace(found.config.training, train_sizes=shares)
    config = replace(found.config, training=training)
    with show.refit() as callbacks:
        # On one device, as the trials were.
        refit = train(config, folder / REFIT, callbacks, Team())
    readings = write_results(folder, study, definition, found, refit)
    return TuningResult(folder, found, refit, readings)


@contextlib.contextmanager
def _interruptible(where: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Go on with: hornbill tune --join {quote(where)}") from None


class _TakenError(TuningError):
    """Another process finishes the search."""


def _alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other processes from finishing the search."""
    taken = _TakenError(f"A search must be finished by one process. Received: {folder}, in use.")
    return exclusive_lock(folder, taken, lambda error: unwritable(folder, error))
