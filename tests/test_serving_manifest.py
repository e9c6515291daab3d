"""Writing the manifest, reading it back, and refusing malformed ones."""

import json
import shutil
from dataclasses import dataclass

import pytest
from checksums import write_checksums
from hypothesis import given
from hypothesis import strategies as st

from serving import Predictor, verify_bundle
from serving.errors import ManifestError
from serving.manifest import Manifest
from serving.schema import decode


@pytest.fixture
def text(bundle):
    return (bundle / "manifest.json").read_bytes()


def test_a_manifest_is_read_as_it_was_written(text):
    manifest = Manifest.from_json(text)
    assert manifest.to_json().encode() == text
    assert manifest.inputs[0].shape == ("batch", 28, 28)


def test_a_later_release_may_add_a_key(text):
    value = {**json.loads(text), "poem": "added"}
    assert Manifest.from_json(json.dumps(value).encode()) == Manifest.from_json(text)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", None, "manifest.json must have the key 'name'"),
        ("version", "1", "manifest.json.version must be int. Received: '1'"),
        ("version", 0, "version must be at least 1, and an int64. Received: version=0"),
        ("version", -3, "Received: version=-3"),
        ("version", 2**63, "version must be at least 1, and an int64"),
        ("labels", "abc", r"manifest.json.labels must be tuple\[str, ...\]. Received: 'abc'"),
        ("labels", ["a", 1], r"manifest.json.labels\[1\] must be str. Received: 1"),
        ("metrics", {"accuracy": "high"}, "metrics.accuracy must be float. Received: 'high'"),
        ("inputs", [{}], r"inputs\[0\] must have the key 'name'"),
        ("proof", 3, "proof must be Proof. Received: 3"),
        ("format_version", "5", "format_version 5. Received: format_version='5'.$"),
        ("task", "class", "task must be one of multiclass, multilabel, regression"),
        ("opset", True, "opset must be int. Received: True"),
        ("metrics", {"accuracy": 10**400}, "metrics.accuracy must be float. Received: 1000"),
        ("labels", ["\ud800"], "must be valid UTF-8 text. Received: a lone surrogate"),
        ("nullable_columns", ["x"], "nullable_columns must be among columns. Received: 'x'"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_location(key, value, message, text):
    changed = json.loads(text)
    changed[key] = value
    if value is None:
        del changed[key]
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(json.dumps(changed).encode())


@pytest.mark.parametrize(
    ("version", "fix"),
    [
        (4, "Export the model again with this version of Hornbill."),
        (2, "Export the model again with this version of Hornbill."),
        (6, "It was written by a newer Hornbill: upgrade Hornbill to read it."),
    ],
)
def test_a_bundle_of_another_format_says_what_to_do(version, fix, bundle, tmp_path):
    """The message is one line, and the bundle is not changed."""
    copy = shutil.copytree(bundle.parent, tmp_path / "digits")
    path = copy / "1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": version}))
    write_checksums(copy / "1")
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    message = f"manifest.json must have format_version 5. Received: format_version={version}. {fix}"
    with pytest.raises(ManifestError) as caught:
        Predictor.load(copy)
    assert str(caught.value) == message
    failed = [check.detail for check in verify_bundle(copy) if not check.passed]
    assert failed == [message, "not checked, see contract"]
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()} == before


def test_json_that_is_nested_too_deeply_is_refused():
    with pytest.raises(ManifestError, match="cannot be read as JSON"):
        Manifest.from_json(b"[" * 100_000)


@given(st.binary())
def test_any_bytes_are_refused_with_a_manifest_error(content):
    with pytest.raises(ManifestError):
        Manifest.from_json(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@dataclass(frozen=True)
class Example:
    count: int
    share: float
    names: tuple[str, ...]
    by_name: dict[str, float]
    either: int | str
    note: str | None
    anything: object


@given(st.dictionaries(st.sampled_from(list(Example.__annotations__)), json_values))
def test_any_json_is_decoded_or_refused(value):
    try:
        example = decode(Example, value, "example")
    except ManifestError:
        return
    assert type(example.count) is int
    assert type(example.share) is float


def test_an_integer_is_accepted_as_a_float():
    value = {
        "count": 1,
        "share": 1,
        "names": [],
        "by_name": {"a": 2},
        "either": "x",
        "note": None,
        "anything": [1],
    }
    example = decode(Example, value, "example")
    assert example == Example(1, 1.0, (), {"a": 2.0}, "x", None, [1])
