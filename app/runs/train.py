"""Trains a run from its data source to its finished folder, or resumes one."""

import contextlib
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from app.config.chosen_defaults import choose_defaults
from app.config.extractors import check_columns_taken, check_units_taken
from app.config.families import build_model, family_named, is_own_model, task_of
from app.config.run_config import RunConfig, flat_config, flatten, make_config
from app.config.run_files import CHECKPOINT, FAILURE, HISTORY, METRICS, NEXT_CONFIG
from app.config.weight_files import check_weight_files
from app.config.without_effect import settings_without_effect
from app.data.array_folders import is_passed_stream
from app.data.constant_inputs import require_variation
from app.data.datasets import Dataset
from app.data.frames import DataOnDisk, data_on_disk, move_data
from app.data.own_data import open_stream
from app.data.pipelines import seed_everything
from app.data.reading_progress import tell
from app.data.sources import absolute_source, load_dataset
from app.data.splits import Splits, some, split_dataset
from app.distributed.team import Team, alone
from app.errors import ConfigError, DataError, OwnCodeError, RunError
from app.evaluation.thresholds import check_rule
from app.system.keras_defaults import keras_defaults
from app.system.locks import exclusive_lock
from app.system.memory import translate_out_of_memory
from app.system.signals import (
    NOTHING_TO_RESUME,
    Interrupted,
    sigterm_as_sigint,
)
from app.system.user_code import shown_name
from app.training.callbacks import EpochLog
from app.training.fit import fit_job
from app.training.history_file import HistoryFile
from app.training.job import Job
from app.training.losses import extra_metrics, make_loss, sample_weights, trained_output
from app.training.model_sizes import fit_to_data, image_size_taken, rows_beside
from app.training.objects_of_script import how_to_resume, tell_of_script
from app.training.own_errors import is_ours, naming_lost_files
from app.training.own_losses import check_callbacks, own_callback
from app.training.own_models import (
    Builder,
    build_with_head,
    builder_of,
    decide_head,
    image_size_of_model,
    save_untrained,
)
from app.training.own_objects import read_objects
from app.training.own_optimizers import own_optimizer
from app.training.progress import with_progress
from app.training.starting_weights import start_image_size, start_with, tell_start
from models.config import OwnModelConfig

from .export_check import tell_unless_exportable
from .going_on import read_run_to_train, write_settings
from .results import finish_run
from .run_folder import (
    Run,
    backbone_files,
    begin_run,
    check_room,
    file_sha256,
    new_run_folder,
    publish_results,
    report_run,
    unwritable,
)
from .training_sizes import scores_by_size

Callbacks = Sequence[keras.callbacks.Callback]
# Settings that a user's pipeline cannot follow, and what it does in their place.
_NOT_FOR_STREAMS = {
    "class_weight": "whose elements may be (x, y, weights)",
    "batch_size": "whose batches are those of its .batch(…)",
    "repeat": "whose passes in an epoch are those of its .repeat(…)",
    "validation_split": "which has validation samples of its own",
}
# Samples for which a new model must have the outputs of the one that it begins with.
_COMPARED = 32


@contextlib.contextmanager
def _nothing_to_resume() -> Iterator[None]:
    """Say that nothing was kept, where a new run is interrupted before anything was."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted(NOTHING_TO_RESUME) from None


@keras_defaults()
@_nothing_to_resume()
def train(  # noqa: PLR0913 - most callers give one or two
    config: RunConfig | Mapping[str, Any] | None = None,
    output: str | Path = "runs",
    callbacks: Callbacks = (),
    team: Team | None = None,
    figures: bool = True,
    *,
    model: Any = None,
    data: Any = None,
    quiet: bool = False,
) -> Run:
    """Train a model and write its run folder. Threads take turns.

    Args:
        config: see `app.config.make_config`; or, with `model`, settings by flat key. Data of Python
            is written to the run's folder.
        output: folder of all runs; the new run is written to `<output>/<family>/<time>`.
        callbacks: callbacks for `keras.Model.fit`.
        team: the processes that train together, each of which calls this; None trains in this
            process only.
        figures: whether to draw the figures of the report. Drawing takes a second or two; a run
            that is resumed keeps this choice.
        model: a model of your own, see `app.config.make_config`; None takes that of `config`.
        data: a data source, a DataFrame, arrays or pipelines, see `app.config.make_config`; None
            takes that of `config`.
        quiet: whether to show neither progress nor notes; handlers of the log `hornbill.notes` get
            notes anyway.

    Returns:
        The finished run. If it fails before the end of the first epoch, its folder is removed,
        unless the user's code is the cause, of which `error.txt` in the folder tells; afterwards
        the folder stays and `resume` continues from the last checkpoint.

    Raises:
        DataError: the data source cannot be used, or does not fit the family.
        ConfigError: head, loss, threshold and targets contradict each other, the backbone cannot be
            built, the model to start from has another architecture, the batch size is not a
            multiple of the number of devices, or `callbacks` is no list of callbacks.
        RunError: the folder cannot be written, the loss is no longer finite, or the processes of
            the team have different settings or data.
        Interrupted: SIGINT or SIGTERM stopped the run. The message says how to resume it, or that
            its first epoch was not finished.

    Examples:
        >>> run = train(make_config("digits", {"variant": "mlp"}))
        >>> run.metrics["test"]["accuracy"]
        >>> run = train({"epochs": 3}, model=build, data=(x, y))
    """
    check_callbacks(callbacks)
    if not isinstance(output, str | Path):
        raise ConfigError(
            f"output must be the path of a folder. Received: {type(output).__name__}. Callbacks "
            "are the third argument, callbacks=[…]."
        )
    config = _configured(config, model, data)
    family_named(config.family).check_file(config.data)
    check_weight_files(config)
    team = team or alone()
    team.check_batch_size(config.training)
    if team.shard.processes > 1 and is_own_model(config.family):
        raise ConfigError(
            "Several processes train softmax, features and digits only. Received: "
            f"{shown_name(config.family)}. Train it in one process."
        )
    with (
        with_progress(callbacks, quiet) as shown,
        data_on_disk(config.data, config.reading.drop) as found,
    ):
        config = replace(config, data=found.source, figures=config.figures and figures)
        return _train(config, Path(output), shown, team, found)


def _configured(config: RunConfig | Mapping[str, Any] | None, model: Any, data: Any) -> RunConfig:
    """Return the configuration that the arguments of `train` amount to."""
    if isinstance(config, RunConfig):
        if model is None:
            return config if data is None else replace(config, data=data)
        settings = {key: flat_config(config)[key] for key in config.given}
        settings["figures"] = config.figures
        own = config.data if data is None else data
        return make_config(model, settings, data=own, seed=config.seed)
    if model is None:
        raise ConfigError(
            "Training needs a configuration or a model: make_config(family, settings), or settings "
            f"and model=…. Received: {type(config).__name__} without a model."
        )
    settings = dict(config or {})
    seed = settings.pop("seed", 0)
    return make_config(model, settings, data=data, seed=seed)


def _train(
    config: RunConfig,
    output: Path,
    callbacks: Callbacks,
    team: Team,
    found: DataOnDisk,
) -> Run:
    own = builder_of(config.family) if isinstance(config.model, OwnModelConfig) else None
    if own is not None:
        config = decide_head(config, own)
    size = _image_size(config, own)
    dataset = load_run_data(config, size)
    if own is not None and size and dataset.kind == "images":
        config = _with_image_size(config, size)
    if found.stream is not None:
        dataset = replace(dataset, stream=found.stream)
        _check_streamed(config, team)
    config = replace(config, data=absolute_source(config.data))
    splits = split_dataset(dataset, config.seed, config.training.validation_split)
    config = choose_defaults(
        config, len(splits.train), dataset.sample_shape, dataset.averaged_labels
    )
    if team.is_writer:
        _tell_what_is_idle(config)
    seed_everything(config.seed)  # the model that is checked is the one that is trained
    model = checked_model(config, dataset, splits, own)
    # Other models are read from a file.
    ready = model if own is None and not config.start_from else None
    if config.start_from and team.is_writer:
        tell_start(config.start_from, dataset)
    if not team.is_writer:
        folder = Path(team.from_writer(None))
        return _fit_and_finish(
            report_run(folder, config, dataset, splits), dataset, callbacks, team, ready
        )
    folder = new_run_folder(output, family_named(config.family).short_name)
    with _removed_unless_resumable(folder), _session(folder, team, config):
        check_room(folder, model.count_params())
        if found.is_written:
            config = replace(config, data=move_data(config.data, folder))
            if dataset.kind == "rows" and dataset.row_format is not None:  # a DataFrame
                dataset = replace(dataset, source=config.data)
        not_exportable = ""
        if own is not None:
            config = save_untrained(model, config, folder)
            has_columns = bool(dataset.columns or dataset.string_columns)
            not_exportable = tell_unless_exportable(model, has_columns)
        tell_of_script(config.training, folder)
        run = report_run(folder, config, dataset, splits)
        passed = [type(each).__name__ for each in callbacks if not is_ours(each)]
        facts = {"callbacks": passed, "not_exportable": not_exportable}
        run = replace(run, data={**run.data, **facts})
        begin_run(run, dataset.files)
        team.from_writer(str(folder))
        return _fit_and_finish(run, dataset, callbacks, team, ready)


def _image_size(config: RunConfig, own: Builder | None) -> tuple[int, ...]:
    if own is not None:
        return image_size_of_model(own, config)
    if config.start_from and config.family == "features" and not config.reading.image_size:
        return start_image_size(config.start_from)
    return image_size_taken(config)


def _with_image_size(config: RunConfig, size: tuple[int, ...]) -> RunConfig:
    """Return the configuration with the size of images that a user's model takes.

    A run that goes on, or is exported, reads its images again.
    """
    reading = replace(config.reading, image_size=size)
    return replace(config, reading=reading, chosen=config.chosen | {"image_size"})


def _tell_what_is_idle(config: RunConfig) -> None:
    """Tell of settings without effect, and of layers that keep weights that were never learned."""
    for line in settings_without_effect(config):
        tell(line)
    model: Any = config.model
    freeze = getattr(model, "freeze", "none")
    if freeze not in ("none", "0") and model.backbone != "mlp" and not model.is_pretrained:
        tell(
            f"{model.backbone} has random weights, and freeze={freeze} keeps them: those layers "
            "learn nothing. Set weights, or a backbone that was trained before."
        )


def _check_streamed(config: RunConfig, team: Team) -> None:
    """Require settings that a user's pipeline can follow."""
    if team.shard.processes > 1:
        raise ConfigError("A pipeline is trained on by a single process. Received: several.")
    defaults = family_named(config.family).training
    for key, reason in _NOT_FOR_STREAMS.items():
        value = getattr(config.training, key)
        if value != getattr(defaults, key):
            raise ConfigError(
                f"{key} does not apply to a pipeline, {reason}. Received: {key}={value}."
            )


@keras_defaults()
def resume(
    folder: str | Path,
    callbacks: Callbacks = (),
    team: Team | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    quiet: bool = False,
) -> Run:
    """Continue an interrupted run, which ends with the metrics of an uninterrupted run.

    With other settings, a finished run goes on too. Its former results stay until the new ones are
    written.

    Args:
        folder: folder of the run, which every process must be able to read.
        callbacks: callbacks for `keras.Model.fit`.
        team: the processes that train together; their number may differ from before. None
            trains in this process only.
        settings: values by flat key, of those that `app.config.going_on.CHANGEABLE` names. A
            schedule is that of a run which had them from its beginning: it goes on at the present
            step.
        data: the pipelines of a run that was trained on them; other data is read again.
        quiet: whether to show neither progress nor notes; handlers of the log `hornbill.notes` get
            notes anyway.

    Returns:
        The finished run. A run that is finished already is returned as it is, if there are no
        `settings`.

    Raises:
        DataError: the data source cannot be used.
        ConfigError: the batch size is not a multiple of the number of devices; `callbacks` is no
            list of callbacks; or a setting must not change, or leaves nothing to train.
        RunError: the folder is not a run of this version, its data or the file of its backbone has
            changed, its checkpoint is missing or damaged, or another process is training it.
        Interrupted: SIGINT or SIGTERM stopped the run again.

    Examples:
        >>> resume("runs/digits/20260101-120000", settings={"epochs": 40})
    """
    check_callbacks(callbacks)
    team, settings = team or alone(), settings or {}
    run = read_run_to_train(Path(folder), settings)
    if run.is_finished:
        return run
    with _session(run.folder, team, run.config), with_progress(callbacks, quiet) as shown:
        if team.is_writer:
            publish_results(run.folder)
        run = read_run_to_train(run.folder, settings)  # another process may have finished it
        if team.from_writer(run.is_finished):
            return run
        team.check_batch_size(run.config.training)
        if team.is_writer:
            _tell_other_backend(run)
            _tell_missing_callbacks(run, callbacks)
            _tell_what_is_idle(replace(run.config, given=frozenset(flatten(settings))))
        read_objects(run.folder)
        run.check_backbone()
        dataset = load_run_data(run.config)
        run.check_data(dataset)
        if dataset.stream is not None:
            stream = open_stream(data, Path(run.config.data), dataset.inputs)
            dataset = replace(dataset, stream=stream)
        writers = [_SettingsWriter(run)] if team.is_writer else []
        return _fit_and_finish(run, dataset, [*shown, *writers], team)


class _SettingsWriter(keras.callbacks.Callback):
    """Writes the settings that a run goes on with, once nothing refuses to go on with them.

    It comes after the checkpoint, whose restoring may be refused.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Write the settings."""
        write_settings(self._run)


def _tell_other_backend(run: Run) -> None:
    backend = keras.backend.backend()
    began = run.data.get("backend", backend)  # runs of earlier versions do not say
    if began != backend:
        tell(
            f"The run began with the Keras backend {began} and goes on with {backend}, so its "
            "results are not exactly those of an uninterrupted run. For the same ones: "
            f"KERAS_BACKEND={began}."
        )


def _tell_missing_callbacks(run: Run, callbacks: Callbacks) -> None:
    given = {type(callback).__name__ for callback in callbacks}
    missing = [name for name in run.data.get("callbacks", ()) if name not in given]
    if missing:
        tell(
            f"The run began with {', '.join(missing)} of Python code, and goes on without. To keep "
            "to it: app.runs.resume(folder, callbacks=[…])."
        )


def load_run_data(config: RunConfig, image_size: tuple[int, ...] = ()) -> Dataset:
    """Read the data of a run in the form that its head needs.

    Args:
        config: configuration of the run.
        image_size: height and width of images if `config` sets none; empty chooses the size.

    Raises:
        DataError: the source cannot be used, or has columns of text under another backend than
            TensorFlow.
    """
    task, has_digits = task_of(config.model), config.family == "digits"
    dataset = load_dataset(config.data, config.reading, task, has_digits, image_size)
    backend = keras.backend.backend()
    if dataset.string_columns and backend != "tensorflow":
        raise DataError(
            "Columns of text need the Keras backend tensorflow, in a single process. "
            f"Received: {backend}, and {', '.join(dataset.string_columns)} of {dataset.source}. "
            "Leave out --processes and KERAS_BACKEND, or encode the texts as numbers."
        )
    return dataset


@keras_defaults()
def checked_model(
    config: RunConfig, dataset: Dataset, splits: Splits, own: Builder | None = None
) -> keras.Model:
    """Return the untrained model, after checking that its settings and data go together.

    Raises:
        DataError: the family cannot take such data, all inputs are equal, or all weights are 0.
        ConfigError: head, loss, threshold, weights and targets contradict each other; or the
            backbone cannot be built; or the model to start from has another architecture.
        RunError: the model is too large for this machine.
    """
    family = family_named(config.family)
    model: Any = config.model
    trained = [model.backbone] if getattr(model, "is_trained", False) else []
    for path in (*trained, *filter(None, [config.start_from])):
        if dataset.kind == "rows":
            check_columns_taken(path, dataset.columns, dataset.string_columns)
        targets = dataset.target_units if path == config.start_from else {}
        check_units_taken(path, dataset.column_units, targets)
    known = rows_beside(config.start_from)
    with translate_out_of_memory():
        sized = fit_to_data(family, config.model, dataset, splits, known)
        model = (
            build_model(config.family, sized)
            if own is None
            else build_with_head(own, config, dataset, splits)
        )
    require_variation(dataset, splits.train)
    if config.start_from:
        sample = dataset.model_inputs(splits.train[some(len(splits.train), _COMPARED)])
        start_with(model, config.start_from, sample)
    output = trained_output(model, sized.trained_layer, dataset.task)
    make_loss(config.training, dataset.task, output, dataset.has_weights)
    extra_metrics(config.training, dataset.task, output)
    for name in config.training.callbacks:
        own_callback(name)
    _check_optimizer(config)
    sample_weights(config.training, dataset, splits)
    check_rule(config.training.threshold, dataset)
    return model


def _check_optimizer(config: RunConfig) -> None:
    """Require that an optimizer of the user's own can be made, and suits the model."""
    optimizer = config.training.optimizer
    if not optimizer.is_own:
        return
    own_optimizer(optimizer.name)
    if getattr(config.model, "has_two_phases", False):
        raise ConfigError(
            "A backbone that was trained before learns in two phases, at two learning rates, which "
            "an optimizer of your own does not have. Received: "
            f"optimizer.name={shown_name(optimizer.name)}. Set freeze=all, or choose an optimizer "
            "by its name, such as adamw."
        )


def _fit_and_finish(
    run: Run,
    dataset: Dataset,
    callbacks: Callbacks,
    team: Team,
    model: keras.Model | None = None,
) -> Run:
    """Train a run and write its results.

    Args:
        run: the run.
        dataset: the samples.
        callbacks: callbacks for `keras.Model.fit`.
        team: the processes that train together.
        model: see `app.training.job.Job`.
    """
    team.announce(run.folder)
    checkpoint = run.folder / CHECKPOINT
    team.agree(_facts(run, checkpoint))
    if team.is_writer:
        log = EpochLog(str(run.folder / "tensorboard"), write_graph=False)
        callbacks = [*callbacks, log, HistoryFile(run.folder / HISTORY)]
    with translate_out_of_memory(), naming_lost_files(dataset.inputs, checkpoint.exists):
        job = Job(run.config, dataset, run.splits, team, model)
        fitted = fit_job(job, callbacks, checkpoint)
        # The precision was chosen once; the models that follow use it without measuring again.
        training = replace(run.config.training, precision=fitted.compilation.precision)
        run = replace(run, config=replace(run.config, training=training))
        sizes = scores_by_size(run.config, dataset, run.splits, team)
        if team.is_writer:
            run = finish_run(run, dataset, fitted, sizes)
    return replace(run, metrics=team.from_writer(run.metrics))


def _facts(run: Run, checkpoint: Path) -> dict[str, str]:
    """Return what must be equal in all processes, by name.

    Paths may differ, and so may `figures`, since only one process draws them.
    """
    settings = flat_config(replace(run.config, data="", start_from="", figures=True))
    return {
        **{name: str(value) for name, value in settings.items()},
        "data (SHA-256)": run.data["sha256"],
        "start_from (SHA-256)": file_sha256(Path(run.config.start_from)),
        "checkpoint (SHA-256)": file_sha256(checkpoint),
        **{f"{key} (SHA-256)": value for key, value in backbone_files(run.config).items()},
    }


@contextlib.contextmanager
def _session(folder: Path, team: Team, config: RunConfig) -> Iterator[None]:
    """Lock a run's folder while it is trained; after SIGTERM or SIGINT, say how to resume it.

    After an error of the user's code too, unless it would end the resumed run in the same way.

    A process that writes nothing needs neither.
    """
    if not team.is_writer:
        yield
        return
    taken = RunError(
        f"Only one process can train a run at a time. Received: {folder}, "
        "which another process is training."
    )
    with (
        exclusive_lock(folder, taken, lambda error: unwritable(folder, error)),
        sigterm_as_sigint(),
    ):
        try:
            (folder / FAILURE).unlink(missing_ok=True)
            yield
        except OwnCodeError as error:
            text = "".join(traceback.format_exception(error))
            (folder / FAILURE).write_text(f"{error}\n\n{text}", "utf-8")
            is_hopeless = error.is_lasting and not (folder / CHECKPOINT).exists()
            how = _how_to_resume(config, folder)
            then = NOTHING_TO_RESUME if is_hopeless else how
            raise OwnCodeError(
                f"{str(error).rstrip('.')}. {folder / FAILURE} says more. {then}", error.is_lasting
            ) from error.__cause__
        except KeyboardInterrupt:
            if (folder / METRICS).exists() and not (folder / NEXT_CONFIG).exists():
                raise Interrupted(f"The run is finished: {folder}") from None
            if not (folder / CHECKPOINT).exists():
                raise
            how = _how_to_resume(config, folder)
            raise Interrupted(how) from None


def _how_to_resume(config: RunConfig, folder: Path) -> str:
    # What Python code has passed is moved into the folder after the settings were read.
    is_passed = is_passed_stream(folder / Path(config.data).name)
    return how_to_resume(config.training, folder, is_passed)


@contextlib.contextmanager
def _removed_unless_resumable(folder: Path) -> Iterator[None]:
    """Remove a new run's folder after an error, unless `resume` could continue the run."""
    try:
        yield
    except OwnCodeError:  # the folder tells of it, and a run can be resumed from its beginning
        raise
    except BaseException:
        if not ((folder / CHECKPOINT).exists() or (folder / METRICS).exists()):
            shutil.rmtree(folder)
        raise
