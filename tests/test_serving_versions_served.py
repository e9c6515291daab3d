"""Which versions are served: pinned and labeled ones from `serving.toml`, and only signed ones."""

import json
import shutil

import pytest
from checksums import write_checksums
from live import Client, start
from test_serving_signature import make_keys
from waiting import wait_until

from serving.server import Settings
from serving.signature import read_signer

ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}


def add_version(model, number):
    """Add a copy of version 1 to a model's folder."""
    folder = shutil.copytree(model / "1", model / "aside")
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": number}))
    (folder / "SHA256SUMS").unlink()
    write_checksums(folder)
    return folder.rename(model / str(number))


@pytest.fixture(scope="module")
def dist(row_bundle, tmp_path_factory):
    """A folder with three versions of one model."""
    folder = tmp_path_factory.mktemp("dist")
    model = shutil.copytree(row_bundle.parent, folder / "softmax")
    for number in (2, 3):
        add_version(model, number)
    return folder


@pytest.fixture(scope="module")
def client(dist):
    (dist / "serving.toml").write_text("[models.softmax]\nlabels = { stable = 1 }\n")
    client, stop = start(Settings(dist, poll_s=0.05, log_requests=False))
    yield client
    stop()


def served(client):
    return client.get("/v2/models/softmax")[1]["versions"]


def wait_for(client, versions):
    wait_until(lambda: served(client) == versions)


def test_a_label_stands_for_its_version_in_both_protocols(client):
    wait_for(client, ["1", "3"])
    status, response = client.post("/v1/models/softmax/labels/stable:predict", ROWS)
    assert status == 200
    assert len(response["predictions"]) == 2
    for path in ("/v1/models/softmax/labels/stable", "/v1/models/softmax/versions/1"):
        (state,) = client.get(path)[1]["model_version_status"]
        assert (state["version"], state["state"]) == ("1", "AVAILABLE")
    metadata = client.get("/v1/models/softmax/labels/stable/metadata")[1]
    assert metadata["model_spec"]["version"] == "1"
    assert client.get("/v2/models/softmax/versions/stable/stats")[0] == 200
    latest = client.get("/v1/models/softmax/metadata")[1]
    assert latest["model_spec"]["version"] == "3"


@pytest.mark.parametrize("label", ["canary", "1", "", "versions"])
def test_a_label_that_nobody_gave_is_unknown(label, client):
    wait_for(client, ["1", "3"])
    status, response = client.post(f"/v1/models/softmax/labels/{label}:predict", ROWS)
    assert status == 404
    if label == "canary":
        assert response["error"].endswith("must be one of: 1, 3, stable. Received: canary.")
    if label == "1":
        message = "one of: stable. Received: 1. A number is a version: versions/1."
        assert response["error"].endswith(message)


def test_a_changed_file_is_followed_and_one_with_a_fault_is_logged_once(client, dist, caplog):
    path = dist / "serving.toml"
    path.write_text("[models.softmax]\nversions = [1, 2]\nlabels = { stable = 2 }\nmax_rows = 1\n")
    wait_for(client, ["1", "2"])
    wait_until(lambda: client.post("/v1/models/softmax:predict", ROWS)[0] == 413)
    path.write_text("[models.softmax]\nversion = [1]\n")
    wait_until(lambda: "contains unknown field `version`" in caplog.text)
    assert "The settings from before stay." in caplog.text
    path.write_text("[models.softmax]\nlabels = { stable = 7 }\n")
    wait_until(lambda: "Received: stable = 7." in caplog.text)
    assert served(client) == ["1", "2"]
    assert client.post("/v1/models/softmax/labels/stable:predict", ROWS)[0] == 413
    assert caplog.text.count("unknown field") == 1
    path.unlink()
    wait_for(client, ["3"])
    wait_until(lambda: client.post("/v1/models/softmax:predict", ROWS)[0] == 200)
    path.write_text("[models.softmax]\nlabels = { stable = 1 }\n")
    wait_for(client, ["1", "3"])


def test_a_fault_at_the_start_is_one_line_and_nothing_is_served(run, row_bundle, tmp_path):
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    (tmp_path / "serving.toml").write_text("[models.softmax]\nlabels = { stable = 7 }\n")
    (tmp_path / "text").write_text("just text")
    model, text = row_bundle.parent, tmp_path / "text"
    for options, message in (
        ((tmp_path,), "Received: stable = 7."),
        ((model, "--key", text), "an elliptic-curve key in PEM"),
        ((model, "--key", tmp_path / "gone"), "gone does not exist."),
        ((model, "--token-file", tmp_path / "gone"), "gone does not exist."),
        ((model, "--tls-cert", text, "--tls-key", text), "TLS needs a certificate in PEM"),
        ((model, "--tls-key", text), "Received: no certificate."),
        ((model, "--uds", text), "--uds must be a path for a new socket."),
        ((model, "--root-path", "a b"), "--root-path must begin with /"),
        ((model, "--cors-origin", "a b"), "An origin must be"),
        ((model, "--max-body-mb", "0"), "--max-body-mb must be above 0"),
        ((model, "--drain-delay", "-1"), "--drain-delay must be from 0"),
        ((model, "--allowed-hosts", "a:1"), "--allowed-hosts must be names"),
        ((model, "--allowed-hosts", ","), "--allowed-hosts must be names"),
        ((model, "--model-control", "none"), "--model-control must be one of"),
    ):
        status, output, error = run("serve", *options)
        assert (status, output, error.count("\n")) == (2, "", 1)
        assert message in error


def test_only_versions_signed_with_the_key_are_served(row_bundle, tmp_path, caplog):
    private, public = make_keys(tmp_path)
    other, _ = make_keys(tmp_path, "other")
    model = shutil.copytree(row_bundle.parent, tmp_path / "dist" / "softmax")
    second = add_version(model, 2)
    read_signer(private)(model / "1")
    write_checksums(model / "1")
    read_signer(other)(second)
    write_checksums(second)
    settings = Settings(model.parent, public_key=public, poll_s=0.05, log_requests=False)
    client, stop = start(settings)
    try:
        assert served(client) == ["1"]
        assert "softmax version 2 cannot be served: model.sig must be made with" in caplog.text
        third = add_version(model, 3)  # its signature is that of version 1
        wait_until(lambda: "softmax version 3 cannot be served: model.sig must" in caplog.text)
        (third / "model.sig").unlink()
        wait_until(lambda: "softmax version 3 cannot be served: The version must" in caplog.text)
        assert served(client) == ["1"]
        public.rename(tmp_path / "aside")  # then nothing new is trusted
        fourth = add_version(model, 4)
        wait_until(lambda: "softmax version 4 cannot be served:" in caplog.text)
        assert fourth.exists()
        assert served(client) == ["1"]
    finally:
        stop()


def test_a_self_test_precedes_readiness(client):
    text = Client(client.port)("GET", "/metrics")[2].decode()
    assert 'hornbill_selftest_total{model="softmax",result="passed",version="3"}' in text
