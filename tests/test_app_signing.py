"""The command line signs what it exports, and verifies it with the public key."""

import sys

from test_serving_signature import make_keys


def test_the_command_line_signs_and_verifies(run, softmax_run, tmp_path):
    private, public = make_keys(tmp_path)

    dist = tmp_path / "dist"
    status, _, error = run("export", softmax_run.folder, "--output", dist, "--sign", private,
                           "--int8", "never")  # fmt: skip
    assert status == 0, error
    (model,) = dist.iterdir()
    status, output, _ = run("verify", model, "--key", public)
    assert status == 0
    assert "PASS  signature" in output
    status, _, error = run("verify", model, "--key", tmp_path / "gone.pub")
    assert status == 2
    assert len(error.strip().splitlines()) == 1


def test_a_key_without_the_extra_is_an_error_of_one_line(run, bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    monkeypatch.delitem(sys.modules, "serving.signature")
    monkeypatch.delattr("serving.signature")
    status, output, error = run("verify", bundle, "--key", "pub.pem")
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert error.startswith("hornbill: Signing and checking signatures need the extra `sign`.")
