"""The command line signs what it exports, and verifies it with the public key."""

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
