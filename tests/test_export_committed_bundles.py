"""The committed bundles are what an export writes today: `python -m tests.make_bundles`."""

import json

import pytest
from conftest import BUNDLES

from serving import verify_bundle
from serving.manifest import FORMAT_VERSION

NAMES = ("digits", "softmax", "raw")


@pytest.fixture
def exported(request, exported_bundle, exported_row_bundle, exported_raw_bundle):
    return {
        "digits": exported_bundle,
        "softmax": exported_row_bundle,
        "raw": exported_raw_bundle[0],
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_bundle_verifies(name):
    checks = verify_bundle(BUNDLES / "dist" / name)
    assert all(check.passed for check in checks), checks


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_bundle_has_the_layout_and_the_manifest_of_an_export(name, exported):
    committed = BUNDLES / "dist" / name
    fresh = exported[name].parent
    assert files(committed) == files(fresh)
    for text in ("config.pbtxt", "labels.txt"):
        assert (committed / text).read_bytes() == (fresh / text).read_bytes()
    manifest, expected = (json.loads((f / "1" / "manifest.json").read_text())
                          for f in (committed, fresh))  # fmt: skip
    assert manifest["format_version"] == FORMAT_VERSION
    assert shape(manifest) == shape(expected)
    for key in ("inputs", "outputs", "task", "prediction_output", "labels", "preprocessing"):
        assert manifest[key] == expected[key]


def files(model):
    """The files of a model, except for the figures, which `make_bundles` leaves out."""
    paths = (path.relative_to(model) for path in model.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if "figures" not in path.parts)


def shape(value):
    """A JSON value's keys and types, without its numbers and texts."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__
