"""Signing a version with a private key and checking it with the public key."""

import shutil
import subprocess

import pytest
from checksums import write_checksums

from serving import verify_bundle
from serving.errors import InputError
from serving.signature import read_signer, read_verifier


def make_keys(folder, name="key"):
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    curve = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private]
    subprocess.run(curve, check=True, capture_output=True)
    publish = ["openssl", "ec", "-in", private, "-pubout", "-out", public]
    subprocess.run(publish, check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="module")
def signed(row_bundle, tmp_path_factory):
    """A signed bundle and the public key."""
    folder = tmp_path_factory.mktemp("signed")
    private, public = make_keys(folder)
    model = shutil.copytree(row_bundle.parent, folder / row_bundle.parent.name)
    read_signer(private)(model / "1")
    write_checksums(model / "1")
    return model, public


@pytest.fixture
def copy(signed, tmp_path):
    return shutil.copytree(signed[0], tmp_path / signed[0].name)


def results(bundle, public):
    return {check.name: check.passed for check in verify_bundle(bundle, read_verifier(public))}


def test_a_signed_bundle_verifies_with_the_key_and_without(signed):
    bundle, public = signed
    assert results(bundle, public) == dict.fromkeys(
        ("files", "contract", "behavior", "signature"), True
    )
    assert all(check.passed for check in verify_bundle(bundle))
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=bundle / "1", check=False).returncode == 0


def test_another_key_is_noticed(signed, tmp_path):
    _, other = make_keys(tmp_path, "other")
    assert not results(signed[0], other)["signature"]


def test_a_change_with_new_checksums_is_noticed(signed, copy):
    card = copy / "1" / "README.md"
    card.write_text(card.read_text() + "more")
    (copy / "1" / "SHA256SUMS").unlink()
    write_checksums(copy / "1")
    found = results(copy, signed[1])
    assert found["files"]
    assert not found["signature"]


def test_a_bundle_can_be_verified_by_a_relative_path(signed, copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    assert all(results(copy.name, signed[1]).values())


def test_a_changed_byte_of_the_signature_is_noticed(signed, copy):
    signature = copy / "1" / "model.sig"
    content = bytearray(signature.read_bytes())
    content[len(content) // 2] ^= 1
    signature.write_bytes(content)
    assert not results(copy, signed[1])["files"]


def test_an_unsigned_bundle_fails_if_a_signature_is_required(signed, row_bundle):
    (check,) = [c for c in verify_bundle(row_bundle, read_verifier(signed[1])) if not c.passed]
    assert check.name == "signature"
    assert "The version must be signed. Received: no file " in check.detail


@pytest.mark.parametrize("role", [read_signer, read_verifier])
def test_a_file_that_is_not_a_key_is_refused(role, tmp_path):
    (tmp_path / "text.pem").write_text("not a key")
    with pytest.raises(InputError, match="an elliptic-curve key in PEM"):
        role(tmp_path / "text.pem")
    with pytest.raises(InputError, match="gone.pem does not exist."):
        role(tmp_path / "gone.pem")
    private, public = make_keys(tmp_path)
    with pytest.raises(InputError, match="an elliptic-curve key in PEM"):
        role(public if role is read_signer else private)
