"""A bundle in one file: the same bytes each time, read as it is, and no byte can change."""

import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checksums import write_checksums
from conftest import BUNDLES
from hypothesis import given
from hypothesis import strategies as st

from serving import ManifestError, Predictor, verify_bundle
from serving.packed import pack, unpack
from serving.versions import find_version

DIGITS = BUNDLES / "dist" / "digits"
PLACE = "digits/1"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The committed digit net in one file."""
    return pack(DIGITS / "1", tmp_path_factory.mktemp("packed") / "digits-1.hornbill")


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_same_version_gives_the_same_bytes_whenever_and_wherever_it_is_packed(
    packed, tmp_path, monkeypatch
):
    copy = shutil.copytree(DIGITS, tmp_path / "digits")
    for path in copy.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    again = pack(copy / "1")
    assert again == Path("digits-1.hornbill")
    assert again.read_bytes() == packed.read_bytes()
    assert names(Path()) == ["digits", "digits-1.hornbill"]


def test_a_packed_file_verifies_and_predicts_as_it_is(packed, images):
    checks = verify_bundle(packed)
    assert [(check.name, check.passed) for check in checks] == [
        ("files", True), ("contract", True), ("behavior", True),
    ]  # fmt: skip
    expected = Predictor.load(DIGITS).predict(images).probabilities
    np.testing.assert_array_equal(Predictor.load(packed).predict(images).probabilities, expected)


def test_unpacking_into_an_empty_folder_of_the_model_writes_what_is_beside_its_versions(
    packed, tmp_path
):
    (tmp_path / "dist" / "digits").mkdir(parents=True)
    folder = unpack(packed, tmp_path / "dist")
    assert contents(folder.parent) == contents(DIGITS)


def test_unpacking_gives_what_was_packed_and_never_overwrites(packed, tmp_path):
    folder = unpack(packed, tmp_path / "dist")
    assert folder == tmp_path / "dist" / PLACE
    assert contents(folder.parent) == contents(DIGITS)
    assert all(check.passed for check in verify_bundle(folder.parent))
    with pytest.raises(ManifestError, match="never overwritten. Received: .*digits/1, which"):
        unpack(packed, tmp_path / "dist")
    (folder.parent / "labels.txt").write_text("other\n")
    folder.rename(folder.with_name("2"))
    with pytest.raises(ManifestError, match=r"same inputs, outputs and labels. .*another labels"):
        unpack(packed, tmp_path / "dist")
    assert names(tmp_path / "dist") == ["digits"]
    assert names(folder.parent) == ["2", "config.pbtxt", "labels.txt"]


def test_it_can_be_packed_again_and_opened_with_any_zip_tool(packed, tmp_path):
    assert pack(find_version(packed), tmp_path / "x.hornbill").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "dist")
    assert contents(tmp_path / "dist" / "digits") == contents(DIGITS)


def is_refused(path):
    """Return whether a check fails: a damaged file is a bundle, so nothing is raised."""
    return not all(check.passed for check in verify_bundle(path))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of the smallest committed bundle, packed."""
    path = tmp_path_factory.mktemp("small") / "small.hornbill"
    return pack(BUNDLES / "dist" / "softmax" / "1", path).read_bytes()


@given(st.data())
def test_a_byte_changed_anywhere_is_found(small, tmp_path_factory, data):
    place = data.draw(st.integers(0, len(small) - 1))
    changed = bytearray(small)
    changed[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("changed") / "changed.hornbill"
    path.write_bytes(changed)
    assert is_refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b + b"x",
        lambda b: b"x" + b,
        lambda b: b[:-1],
        lambda b: b[:5000],
        lambda b: b[:-4] + b"\xff" * 4,
        lambda b: b[:-6] + b"\xff" * 4 + b[-2:],
        lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:],
        lambda _: b"",
    ],
)
def test_a_damaged_file_fails_the_check_of_files(change, small, tmp_path, run):
    path = tmp_path / "x.hornbill"
    path.write_bytes(change(small))
    assert is_refused(path)
    status, output, error = run("verify", path, "--quiet")
    assert (status, output) == (1, "")
    assert error.startswith("FAIL  files")


def written(path, entries, compression=zipfile.ZIP_STORED):
    """Write a zip of `(name, content, mode)`."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            entry.compress_type = compression
            archive.writestr(entry, content)
    return path


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
HOSTILE = {
    "a path that leads out": [(f"{PLACE}/../../../out", b"x", FILE)],
    "an absolute path": [(f"{PLACE}/a", b"x", FILE), ("/etc/out", b"x", FILE)],
    "a path of Windows": [(f"{PLACE}/..\\out", b"x", FILE)],
    "a link": [(f"{PLACE}/a", b"/etc/passwd", LINK)],
    "a file beside the version": [(f"{PLACE}/a", b"x", FILE), ("digits/evil", b"x", FILE)],
    "two versions": [(f"{PLACE}/a", b"x", FILE), ("digits/2/a", b"x", FILE)],
    "no version": [("a", b"x", FILE)],
    "a name that is a number": [("7/1/a", b"x", FILE)],
    "a hidden name": [(".x/1/a", b"x", FILE)],
    "nothing": [],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_before_anything_is_written(kind, tmp_path):
    path = written(tmp_path / "x.hornbill", HOSTILE[kind])
    before = set(Path(tmp_path).rglob("*"))
    with pytest.raises(ManifestError, match="packed bundle must hold"):
        unpack(path, tmp_path / "dist")
    assert set(tmp_path.rglob("*")) == before


def test_a_bomb_is_refused(tmp_path):
    entries = [(f"{PLACE}/a", bytes(10_000_000), FILE)]
    path = written(tmp_path / "x.hornbill", entries, zipfile.ZIP_DEFLATED)
    with pytest.raises(ManifestError, match="without compression"):
        unpack(path, tmp_path / "dist")
    # Entries that share their bytes, all but the first of which are in no place of their own.
    path = written(tmp_path / "y.hornbill", [(f"{PLACE}/a", bytes(100_000), FILE)])
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.infolist()[0]
        for number in range(1, 50):
            entry = zipfile.ZipInfo(f"{PLACE}/a{number}")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "external_attr"):
                setattr(entry, name, getattr(first, name))
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
        archive._didModify = True
    with pytest.raises(ManifestError, match="must fit into it. Received: 5,000,000 bytes in"):
        unpack(path, tmp_path / "dist")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read as a packed bundle"), (b"PK\3\4" + bytes(99), "cannot be read as")],
)
def test_other_files_are_told_in_one_line(content, message, tmp_path):
    path = tmp_path / "x.hornbill"
    path.write_bytes(content)
    for read in (unpack, Predictor.load):
        with pytest.raises(ManifestError, match=message):
            read(path)
    first, *others = verify_bundle(path)
    assert not first.passed
    assert message in first.detail
    assert {check.detail for check in others} == {"not checked, see files"}


@pytest.fixture
def broken(tmp_path, request):
    """A bundle that `verify` refuses for its files."""
    copy = shutil.copytree(BUNDLES / "dist" / "softmax" / "1", tmp_path / "softmax" / "1")
    if request.param == "a link":
        (copy / "README.md").unlink()
        os.mkfifo(tmp_path / "target")  # opening it would never end
        (copy / "README.md").symlink_to(tmp_path / "target")
    elif request.param == "the manifest is a link":
        shutil.move(copy / "manifest.json", tmp_path / "target")
        (copy / "manifest.json").symlink_to(tmp_path / "target")
    elif request.param == "an unlisted file":
        (copy / "more.txt").write_text("x")
    else:
        shutil.rmtree(copy / "test_data_set_0")
        write_checksums(copy)
    return copy


@pytest.mark.parametrize(
    "broken",
    ["a link", "the manifest is a link", "an unlisted file", "no golden samples"],
    indirect=True,
)
def test_what_verify_refuses_for_its_files_is_neither_packed_nor_pushed(broken, tmp_path, run):
    check = verify_bundle(broken)[0]
    assert not check.passed
    for call in (["pack", broken, "-o", tmp_path / "x.hornbill"], ["push", broken, "oci:images"]):
        status, output, error = run(*call)
        assert (status, output, error) == (2, "", f"hornbill: {check.detail}\n")
    assert names(tmp_path) in (["softmax"], ["softmax", "target"])


def test_a_broken_bundle_or_another_name_is_not_packed(tmp_path):
    copy = shutil.copytree(DIGITS, tmp_path / "digits")
    (copy / "1" / "README.md").write_text("changed")
    with pytest.raises(ManifestError, match=r"README.md must have the SHA-256"):
        pack(copy / "1", tmp_path / "x.hornbill")
    with pytest.raises(ManifestError, match=r"named \*.hornbill. Received: .*x.zip"):
        pack(DIGITS / "1", tmp_path / "x.zip")
    with pytest.raises(ManifestError, match="cannot be written"):
        pack(DIGITS / "1", tmp_path / "no" / "x.hornbill")
    assert names(tmp_path) == ["digits"]
    with pytest.raises(ManifestError, match=r"no.hornbill, which does not exist"):
        unpack(tmp_path / "no.hornbill")
