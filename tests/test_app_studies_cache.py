"""Which edits invalidate the cached results of a study, and files protected by a checksum."""

import shutil
from pathlib import Path

import grimp
import numpy as np
import pytest

from app.studies.cache import (
    DRAWING,
    SOURCES,
    cache_key,
    drawing_key,
    plain,
    read_sealed,
    source_files,
    write_sealed,
)
from app.studies.catalogue import NAMES, module_name
from app.studies.study import Effort

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "export", "models", "serving")
QUICK = Effort(2, True)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of all source files, which tests edit."""
    root = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        for path in (*(ROOT / package).rglob("*.py"), *(ROOT / package).rglob("*.toml")):
            copy = root / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return root


def is_outdated_by_an_edit(root, path, study="vanishing"):
    before = cache_key(study, QUICK, root)
    with (root / path).open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    return cache_key(study, QUICK, root) != before


@pytest.mark.parametrize(
    ("path", "draws"),
    [
        ("app/commands/study.py", False),
        ("app/reports/plotting.py", True),
        ("app/reports/run_report.py", False),
        ("app/studies/panels.py", True),
        ("app/studies/rates.py", True),
        ("app/studies/report.py", False),
        ("app/studies/claims/ink.py", False),
        ("app/studies/vocabulary.toml", True),
        ("app/tuning/search.py", False),
    ],
)
def test_an_edit_that_changes_no_numbers_keeps_them_and_redraws_what_it_changes(
    path, draws, sources
):
    before = drawing_key(sources)
    assert not is_outdated_by_an_edit(sources, path)
    assert (drawing_key(sources) != before) == draws


@pytest.mark.parametrize(
    "path",
    [
        "app/config/training_config.py",
        "app/data/splits.py",
        "app/distributed/steps.py",
        "app/evaluation/metrics.py",
        "app/studies/claims/vanishing.py",
        "app/studies/gradients.py",
        "app/system/keras_defaults.py",
        "app/training/fit.py",
        "export/onnx/convert.py",
        "export/passes/pipeline.py",
        "models/features.py",
        "serving/session.py",
    ],
)
def test_an_edit_of_training_or_export_invalidates_the_cached_results(path, sources):
    assert is_outdated_by_an_edit(sources, path)


def test_the_cache_key_depends_on_the_settings():
    efforts = (Effort(2), Effort(3), Effort(2, True))
    assert len({cache_key("vanishing", effort) for effort in efforts}) == len(efforts)


def test_the_cache_key_depends_on_the_backend_of_keras(monkeypatch):
    keys = set()
    for backend in ("tensorflow", "jax"):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        keys.add(cache_key("vanishing", QUICK))
    assert len(keys) == 2


@pytest.mark.parametrize("pattern", [*SOURCES, *DRAWING])
def test_every_pattern_matches_files(pattern):
    assert list(ROOT.glob(pattern))


def test_the_cache_key_covers_every_module_that_a_study_imports():
    """Those that refuse, write files or handle signals change no number.

    Others judge or draw.
    """
    harmless = {"app.errors", "app.system.arrow_types", "app.system.notes"}
    harmless |= {"app.system.atomic_files", "app.system.data_folders", "app.system.hidden_files"}
    harmless |= {"app.system.image_paths"}
    harmless |= {"app.system.signals", "app.system.user_code", "app.system.user_packages"}
    harmless |= {pattern.partition(".")[0].replace("/", ".") for pattern in DRAWING}
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    for name in NAMES:
        covered = {
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in source_files(name)
        }
        module = module_name(name)
        assert {module, *graph.find_upstream_modules(module)} - covered <= harmless


def test_numbers_are_converted_to_what_json_can_represent(tmp_path):
    values = {"a": np.array([1.5, np.nan]), 2: np.int64(3), "c": [np.bool_(True), np.inf]}
    write_sealed(tmp_path / "numbers.json", plain(values))
    assert read_sealed(tmp_path / "numbers.json") == {"a": [1.5, None], "2": 3, "c": [True, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]
