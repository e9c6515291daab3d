"""Which edits invalidate the cached results of a study, and files protected by a checksum."""

import shutil
from pathlib import Path

import grimp
import numpy as np
import pytest

from app.studies.cache import SOURCES, cache_key, plain, read_sealed, source_files, write_sealed
from app.studies.catalogue import NAMES, module_name
from app.studies.study import Effort

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "export", "models", "serving")
QUICK = Effort(2, True)
DRAW_OR_JUDGE = ("chinese_figures", "panels", "rates", "signs", "study", "vocabulary")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of all source files, which tests edit."""
    root = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
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
    "path",
    [
        "app/commands/study.py",
        "app/reports/plotting.py",
        "app/reports/run_report.py",
        "app/studies/panels.py",
        "app/studies/report.py",
        "app/studies/claims/ink.py",
        "app/tuning/search.py",
    ],
)
def test_an_edit_that_changes_no_numbers_keeps_the_cached_results(path, sources):
    assert not is_outdated_by_an_edit(sources, path)


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


@pytest.mark.parametrize("pattern", SOURCES)
def test_every_pattern_matches_files(pattern):
    assert list(ROOT.glob(pattern))


def test_the_cache_key_covers_every_module_that_a_study_imports():
    """Those that judge, draw, refuse, write files, or handle signals change no number."""
    harmless = {"app.errors", "app.reports.plotting", "app.system.arrow_types"}
    harmless |= {"app.system.notes"}
    harmless |= {"app.system.atomic_files", "app.system.data_folders", "app.system.hidden_files"}
    harmless |= {"app.system.signals", "app.system.user_code", "app.system.user_packages"}
    harmless |= {f"app.studies.{name}" for name in DRAW_OR_JUDGE}
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
