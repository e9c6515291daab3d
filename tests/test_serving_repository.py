"""The models of a running server: readiness, states, and loading at the request of clients."""

import json
import shutil
import time

import pytest
import tritonclient.http as triton
from checksums import write_checksums
from hostile_graphs import add_endless_loop, rename, write_hostile
from live import start
from tritonclient.utils import InferenceServerException
from waiting import wait_until

from serving.errors import InputError
from serving.server import Settings
from serving.server.model_control import ModelControl

LIVE = "/v2/health/live"
READY = "/v2/health/ready"
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


def copy_model(row_bundle, folder):
    """Copy `softmax` under another name."""
    model = shutil.copytree(row_bundle.parent, folder)
    rename(model / "1", folder.name)
    return model


def states(client):
    return {row["name"]: row["state"] for row in client.get("/models")[1]["models"]}


@pytest.fixture(scope="module")
def mixed(row_bundle, tmp_path_factory):
    """A client of a server with a good model, a broken one and one that never ends."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(row_bundle.parent, folder / "softmax")
    write_hostile(row_bundle, folder / "endless", add_endless_loop)
    broken = copy_model(row_bundle, folder / "broken")
    (broken / "1" / "model.onnx").write_bytes(b"")
    client, stop = start(Settings(folder, log_requests=False, max_load_seconds=4.0), LIVE)
    yield client
    stop()


def test_a_good_model_is_served_while_another_never_ends_and_then_that_one_fails(mixed):
    wait_until(lambda: states(mixed).get("softmax") == "ready")
    assert mixed.post("/v1/models/softmax:predict", BODY)[0] == 200
    wait_until(lambda: mixed.get(READY)[0] == 200)
    wait_until(
        lambda: states(mixed) == {"softmax": "ready", "broken": "failed", "endless": "failed"}
    )
    rows = {row["name"]: row for row in mixed.get("/models")[1]["models"]}
    assert "at most 4 s. Received: a bundle that takes longer" in rows["endless"]["reason"]
    assert "the file has changed" in rows["broken"]["reason"]
    assert mixed.get(READY) == (200, {"ready": True, "live": True})


def test_a_failed_model_is_not_ready_and_its_requests_get_the_reason(mixed):
    wait_until(lambda: states(mixed).get("broken") == "failed")
    assert mixed.get("/v2/models/broken/ready") == (503, {"name": "broken", "ready": False})
    assert mixed.get("/v2/models/broken/versions/1/ready")[0] == 503
    assert mixed.get("/v2/models/none/ready")[0] == 404
    for status, response in (
        mixed.get("/v2/models/broken"),
        mixed.post("/v1/models/broken:predict", BODY),
    ):
        assert status == 503
        assert "broken version 1 cannot be served: " in response["error"]
    (version,) = mixed.get("/v1/models/broken")[1]["model_version_status"]
    assert version["state"] == "END"
    assert "the file has changed" in version["status"]["error_message"]


def test_metrics_have_the_state_of_each_version(mixed):
    def text():
        return mixed("GET", "/metrics")[2].decode()

    series = 'hornbill_model_state{{model="{}",state="{}",version="1"}} {}\n'
    wait_until(lambda: series.format("broken", "failed", 1.0) in text())
    wait_until(lambda: series.format("softmax", "ready", 1.0) in text())
    assert series.format("broken", "ready", 0.0) in text()


def test_a_server_without_a_model_is_not_ready_until_it_has_one(row_bundle, tmp_path):
    model = shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    (model / "1" / "model.onnx").write_bytes(b"")
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False), LIVE)
    try:
        wait_until(lambda: states(client) == {"softmax": "failed"})
        assert client.get(READY) == (503, {"ready": False, "live": True})
        shutil.copy(row_bundle / "model.onnx", model / "1" / "model.onnx")
        wait_until(lambda: client.get(READY)[0] == 200)
    finally:
        stop()


def test_a_required_model_must_be_served_for_the_server_to_be_ready(row_bundle, tmp_path, caplog):
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    settings = Settings(tmp_path, poll_s=0.02, log_requests=False, require=("softmax", "second"))
    client, stop = start(settings, LIVE)
    try:
        wait_until(lambda: "not ready until" in caplog.text)
        assert f"The server is not ready until {tmp_path} has second to serve." in caplog.text
        assert client.post("/v1/models/softmax:predict", BODY)[0] == 200
        assert client.get(READY)[0] == 503
        copy_model(row_bundle, tmp_path / "second")
        wait_until(lambda: client.get(READY)[0] == 200)
        shutil.rmtree(tmp_path / "second")
        wait_until(lambda: client.get(READY)[0] == 503)
    finally:
        stop()


def test_a_new_model_that_is_being_loaded_leaves_the_server_ready(row_bundle, tmp_path):
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False))
    try:
        endless = write_hostile(row_bundle, tmp_path / "endless", add_endless_loop)
        wait_until(lambda: states(client).get("endless") == "loading")
        assert client.get(READY)[0] == 200
        assert client.get("/v2/models/endless/ready")[0] == 503
        status, _, body = client("POST", "/v2/repository/index", b"{}")
        assert status == 200
        assert {row["name"]: row["state"] for row in json.loads(body)} == {
            "endless": "LOADING",
            "softmax": "READY",
        }
        shutil.rmtree(endless.parent)  # its trial ends with it
        wait_until(lambda: states(client) == {"softmax": "ready"})
    finally:
        stop()


@pytest.fixture
def controlled(row_bundle, tmp_path):
    """Clients of two servers that share a folder and what clients ask for, and the folder."""
    folder = tmp_path / "dist"
    shutil.copytree(row_bundle.parent, folder / "softmax")
    copy_model(row_bundle, folder / "second")
    shared = tmp_path / "shared"
    shared.mkdir()
    settings = Settings(
        folder,
        log_requests=False,
        poll_s=0.05,
        model_control="explicit",
        require=("softmax",),
        shared_folder=shared,
    )
    started = [start(settings), start(settings)]
    with triton.InferenceServerClient(f"127.0.0.1:{started[0][0].port}") as client:
        yield client, started[1][0], folder
    for _, stop in started:
        stop()


def test_tritonclient_loads_and_unloads_models_of_all_processes(controlled, row_bundle, caplog):
    client, other, folder = controlled
    assert client.get_model_repository_index() == [
        {"name": "second", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "softmax", "version": "1", "state": "READY", "reason": ""},
    ]
    assert not client.is_model_ready("second")
    client.load_model("second")
    assert client.is_model_ready("second")
    assert other.get("/v2/models/second/ready")[0] == 200  # the answer comes when all have it
    client.unload_model("second")
    assert not client.is_model_ready("second")
    with pytest.raises(InferenceServerException, match="models/NAME/load loads others."):
        client.get_model_metadata("second")
    assert other.get("/v2/models/second/ready")[0] == 404
    # A model that fails, and then its repair.
    (folder / "second" / "1" / "model.onnx").write_bytes(b"")
    with pytest.raises(InferenceServerException, match="second cannot be loaded: .*changed"):
        client.load_model("second")
    (row,) = (row for row in client.get_model_repository_index() if row["name"] == "second")
    assert (row["state"], "changed" in row["reason"]) == ("UNAVAILABLE", True)
    shutil.copytree(row_bundle, folder / "second" / "1", dirs_exist_ok=True)
    rename(folder / "second" / "1", "second")
    client.load_model("second")
    client.load_model("second")  # it is loaded already
    assert client.is_server_ready()
    client.unload_model("softmax", unload_dependents=True)
    assert not client.is_server_ready()  # it is required
    assert "The server is not ready until softmax is loaded." in caplog.text
    with pytest.raises(InferenceServerException, match="must be one of: second, softmax. Rec"):
        client.load_model("none")
    with pytest.raises(InferenceServerException, match="must be one of: second, softmax. Rec"):
        client.unload_model("none")
    with pytest.raises(InferenceServerException, match="without parameters. Received: config"):
        client.load_model("softmax", config="{}")


def test_a_request_is_followed_when_its_model_is_loaded_everywhere(tmp_path):
    mine, other = (ModelControl((), tmp_path / "models") for _ in range(2))
    for name in ("slow", "second"):
        mine.request(name, is_load=True)
    assert other.has_news()
    assert [one.update() for one in (mine, other)] == [{"slow", "second"}] * 2
    assert not other.has_news()
    for one in (mine, other):
        one.report(())  # of what was done before: these have not begun
        assert not mine.is_followed(1)
    for one in (mine, other):
        one.begin()
    mine.report(())
    other.report({"second"})
    assert (mine.is_followed(1), mine.is_followed(2)) == (True, False)
    other.report({"slow"})  # loaded again, since its files have changed
    assert mine.is_followed(2)
    other.close()
    mine.request("third", is_load=True)
    mine.update()
    mine.begin()
    mine.report(())
    assert mine.is_followed(mine.count)


def test_nothing_is_loaded_without_a_request(controlled, row_bundle):
    client, _, folder = controlled
    copy_model(row_bundle, folder / "third")
    second = shutil.copytree(folder / "softmax" / "1", folder / ".2")
    manifest = json.loads((second / "manifest.json").read_text())
    (second / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    write_checksums(second)
    second.rename(folder / "softmax" / "2")
    time.sleep(0.5)  # several polls
    assert not client.is_model_ready("third")
    assert "third" in {row["name"] for row in client.get_model_repository_index()}
    assert client.get_model_metadata("softmax")["versions"] == ["1"]
    client.load_model("softmax")
    assert client.get_model_metadata("softmax")["versions"] == ["2"]


def test_a_server_that_serves_its_folder_refuses_to_load_and_unload(mixed):
    for action in ("load", "unload"):
        status, response = mixed.post(f"/v2/repository/models/softmax/{action}", {})
        assert status == 400
        assert "only be loaded and unloaded by requests with --model-control" in response["error"]
    assert mixed.get("/v2/models/softmax/ready")[0] == 200


@pytest.mark.parametrize("body", ["[]", "{", '{"ready": 1}', '{"parameters": []}', "\x00"])
def test_a_wrong_body_of_the_repository_extension_gets_400(body, mixed):
    path = "load" if "parameters" in body else "index"
    path = "/v2/repository/models/softmax/load" if path == "load" else "/v2/repository/index"
    status, _, response = mixed("POST", path, body)
    assert status == 400
    assert "object of the model repository extension" in json.loads(response)["error"]


def test_the_index_is_only_of_ready_versions_on_request(mixed):
    wait_until(lambda: states(mixed).get("softmax") == "ready")
    status, rows = mixed.post("/v2/repository/index", {"ready": True})
    assert (status, [row["name"] for row in rows]) == (200, ["softmax"])
    assert mixed("GET", "/v2/repository/index")[1]["allow"] == "POST"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_control", "none", "model_control must be one of poll, explicit. Received: 'none'"),
        ("drain_delay_s", -1.0, "drain_delay_s must be from 0 to 3,600"),
        ("drain_delay_s", float("nan"), "drain_delay_s must be from 0 to 3,600"),
        ("max_load_seconds", 0.0, "max_load_seconds must be above 0"),
        ("max_load_memory_gb", float("inf"), "max_load_memory_gb must be above 0"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(name, value, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Settings(tmp_path, **{name: value})
