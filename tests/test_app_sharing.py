"""Handing bundles on: what is pulled is what was pushed, and nothing else is ever published."""

import base64
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from checksums import write_checksums
from conftest import BUNDLES
from hypothesis import given
from hypothesis import strategies as st
from live import free_port

from app.errors import SharingError
from app.sharing import handing_on
from app.sharing.handing_on import pull, push
from app.sharing.images import LAYER, MANIFEST, digest_of, read_layer
from app.sharing.references import parse_reference
from serving import ManifestError, verify_bundle

DIGITS = BUNDLES / "dist" / "digits" / "1"
SOFTMAX = BUNDLES / "dist" / "softmax" / "1"
REGISTRY = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""
# bcrypt of `right`, as `htpasswd -B` writes it
PASSWORDS = "maya:$2y$05$yGMjqUJU6B9ALnAx/zYMguG9uYdrAiPrJmvBbNYPaZ/jznlU5X1vi\n"


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start_registry(folder, auth=""):
    """Run Debian's docker-registry; return its process and `localhost:PORT`."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    folder.mkdir(exist_ok=True)
    port = free_port()
    path = folder / "config.yml"
    path.write_text(REGISTRY.format(folder=folder, port=port, auth=auth))
    process = subprocess.Popen([program, "serve", str(path)])
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"localhost:{port}"
        time.sleep(0.05)
    ended(process)
    raise AssertionError("the registry does not listen")


def ended(process):
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The host of a registry that takes everything."""
    process, host = start_registry(tmp_path_factory.mktemp("registry"))
    yield host
    ended(process)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The host of a registry that takes the credentials of `maya` only."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "htpasswd").write_text(PASSWORDS)
    auth = f"auth: {{htpasswd: {{realm: Models, path: {folder}/htpasswd}}}}"
    process, host = start_registry(folder, auth)
    yield host
    ended(process)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An image layout with the smallest committed bundle."""
    folder = tmp_path_factory.mktemp("layout") / "images"
    push(SOFTMAX, f"oci:{folder}")
    return folder


def changed_copy(original, folder, **changes):
    """Copy a version with other values in its manifest."""
    copy = shutil.copytree(original, folder)
    manifest = json.loads((copy / "manifest.json").read_text()) | changes
    (copy / "manifest.json").write_text(json.dumps(manifest))
    write_checksums(copy)
    return copy


def test_what_is_pulled_from_a_registry_is_what_was_pushed(registry, tmp_path):
    pushed = push(DIGITS, f"{registry}/team/digits")
    assert pushed.reference == f"{registry}/team/digits:1"
    with urllib.request.urlopen(
        urllib.request.Request(
            f"http://{registry}/v2/team/digits/manifests/1", headers={"Accept": MANIFEST}
        )
    ) as response:
        assert response.headers["Docker-Content-Digest"] == pushed.digest
    pulled = pull(f"oci://{registry}/team/digits:1", tmp_path / "dist")
    assert pulled.digest == pushed.digest
    assert contents(pulled.folder.parent) == contents(DIGITS.parent)
    assert all(check.passed for check in verify_bundle(pulled.folder.parent))
    again = push(pulled.folder, f"oci:{tmp_path}/images")
    assert again.digest == pushed.digest
    exact = pull(f"{registry}/team/digits@{pushed.digest}", tmp_path / "other")
    assert contents(exact.folder.parent) == contents(DIGITS.parent)


def test_pulling_again_changes_nothing_and_another_version_is_never_overwritten(layout, tmp_path):
    first = pull(f"oci:{layout}", tmp_path)
    before = contents(tmp_path)
    assert pull(f"oci:{layout}", tmp_path) == first
    other = changed_copy(SOFTMAX, tmp_path / "copy", warnings=["changed"])
    push(other, f"oci:{tmp_path}/images")
    with pytest.raises(ManifestError, match="never overwritten. Received: .*softmax/1"):
        pull(f"oci:{tmp_path}/images", tmp_path)
    assert contents(tmp_path / "softmax") == {
        path.relative_to("softmax"): content for path, content in before.items()
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "images", "softmax"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1/model.onnx", b"cut off"),
        ("1/model.onnx", None),
        ("1/notes.txt", b"not listed"),
    ],
)
def test_pulling_what_is_there_but_damaged_is_an_error(layout, tmp_path, name, content):
    folder = pull(f"oci:{layout}", tmp_path).folder
    path = folder.parent / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=rf"{path.name}.* Remove {folder} and pull again\."):
        pull(f"oci:{layout}", tmp_path)


def test_what_versions_share_may_be_edited_and_is_restored_if_it_is_lost(layout, tmp_path):
    folder = pull(f"oci:{layout}", tmp_path).folder
    config, labels = folder.parent / "config.pbtxt", folder.parent / "labels.txt"
    edited = config.read_text() + "instance_group [{ count: 2 }]\n"
    config.write_text(edited)
    content = labels.read_bytes()
    labels.unlink()
    assert pull(f"oci:{layout}", tmp_path).folder == folder
    assert (config.read_text(), labels.read_bytes()) == (edited, content)


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_without_a_tag_the_highest_version_is_pulled(kind, request, tmp_path):
    place = f"oci:{tmp_path}/images"
    if kind == "registry":
        place = f"{request.getfixturevalue('registry')}/team/softmax"
    for version in (9, 10, 2):
        push(changed_copy(SOFTMAX, tmp_path / str(version), version=version), place)
    push(tmp_path / "2", f"{place}:stable")
    assert pull(place, tmp_path / "dist").folder.name == "10"
    assert pull(f"{place}:stable", tmp_path / "dist").folder.name == "2"


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_the_tag_of_a_version_names_one_image_for_ever_and_others_move(kind, request, tmp_path):
    place = f"oci:{tmp_path}/images"
    if kind == "registry":
        place = f"{request.getfixturevalue('registry')}/team/tags"
    first = push(SOFTMAX, place)
    assert push(SOFTMAX, place) == first
    push(SOFTMAX, f"{place}:stable")
    other = changed_copy(SOFTMAX, tmp_path / "copy", warnings=["changed"])
    with pytest.raises(SharingError, match=r"never overwritten. Received: .*:1, which is another"):
        push(other, place)
    with pytest.raises(SharingError, match="must be the version, 1"):
        push(SOFTMAX, f"{place}:2")
    moved = push(other, f"{place}:stable")
    assert moved.digest != first.digest
    assert pull(f"{place}:1", tmp_path / "a").digest == first.digest
    assert pull(f"{place}:stable", tmp_path / "b").digest == moved.digest


def test_a_digest_names_its_image_after_the_tag_has_moved(tmp_path):
    place = f"oci:{tmp_path}/images"
    pushed = [push(SOFTMAX, f"{place}:stable")]
    for warning in ("first", "second"):
        copy = changed_copy(SOFTMAX, tmp_path / warning, warnings=[warning])
        pushed.append(push(copy, f"{place}:stable"))
    for each in (*pushed, push(SOFTMAX, f"{place}:stable")):
        assert pull(f"{place}@{each.digest}", tmp_path / each.digest).digest == each.digest
    index = json.loads((tmp_path / "images" / "index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [
        *(each.digest for each in pushed[1:]),
        pushed[0].digest,
    ]


def test_the_layer_holds_a_model_repository_in_models_for_any_user(layout, tmp_path):
    image = json.loads(manifest_of(layout).read_bytes())
    (layer,) = image["layers"]
    assert image["annotations"]["org.opencontainers.image.version"] == "1"
    with tarfile.open(blob_of(layout, layer["digest"])) as archive:
        entries = archive.getmembers()
        archive.extractall(tmp_path, filter="data")
    assert [e.name for e in entries[:3]] == [
        "models",
        "models/softmax",
        "models/softmax/config.pbtxt",
    ]
    assert {e.mode for e in entries if e.isdir()} == {0o755}
    assert {e.mode for e in entries if e.isfile()} == {0o644}
    assert {(e.mtime, e.uid, e.gid) for e in entries} == {(0, 0, 0)}
    assert contents(tmp_path / "models" / "softmax") == contents(SOFTMAX.parent)


def test_a_bundle_is_put_on_a_base_with_a_shell(registry, tmp_path):
    shell = io.BytesIO()
    with tarfile.open(fileobj=shell, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("bin/sh"))
    digest = digest_of(shell.getvalue())
    config = {
        "architecture": "arm64", "os": "linux", "config": {"Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": [{"created_by": "base"}],
    }  # fmt: skip
    base = tmp_path / "base"
    write_image(base, json.dumps(config).encode(), [(LAYER, shell.getvalue())])
    pushed = push(SOFTMAX, f"{registry}/team/based", base=f"oci:{base}:latest")
    pulled = pull(f"{registry}/team/based", tmp_path / "dist")
    assert (pulled.digest, contents(pulled.folder)) == (pushed.digest, contents(SOFTMAX))

    def get(path):
        request = urllib.request.Request(
            f"http://{registry}/v2/team/based/{path}", headers={"Accept": MANIFEST}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return json.load(response)

    image = get("manifests/1")
    layers = [layer["digest"] for layer in image["layers"]]
    found = get(f"blobs/{image['config']['digest']}")
    assert layers[0] == digest
    assert found["rootfs"]["diff_ids"] == layers
    assert found["config"] == {"Env": ["A=1"]}
    assert found["architecture"] == "arm64"
    assert [step["created_by"] for step in found["history"]] == ["base", "hornbill push"]


def blob_of(layout, digest):
    return layout.joinpath("blobs", *digest.split(":"))


def manifest_of(layout):
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return blob_of(layout, entry["digest"])


def write_image(folder, config, blobs_of_layers=(), **changes):
    """Write a layout with one image, `latest`, without asking whether it is right."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(media_type, content):
        (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    image = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": add("application/vnd.oci.image.config.v1+json", config),
        "layers": [add(*layer) for layer in blobs_of_layers],
    } | changes
    entry = add(MANIFEST, json.dumps(image).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{folder}:latest"


def assert_nothing_is_published(output):
    assert not output.exists()


@given(st.data())
def test_a_byte_changed_in_any_blob_is_found(layout, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("changed")
    copy = shutil.copytree(layout, folder / "images")
    blob = data.draw(st.sampled_from(sorted(p for p in copy.rglob("blobs/*/*"))))
    content = bytearray(blob.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    blob.write_bytes(content)
    digest = f"sha256:{manifest_of(layout).name}"
    with pytest.raises(SharingError, match="must have this digest|must be as the image says"):
        pull(f"oci:{copy}@{digest}", folder / "dist")
    assert_nothing_is_published(folder / "dist")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "must be as the image says"),
        (lambda b: b + b"x", "must be as the image says"),
        (lambda b: b[:0], "must be as the image says"),
        (None, "does not exist"),
    ],
)
def test_a_cut_a_longer_and_a_missing_layer_are_found(change, message, layout, tmp_path):
    copy = shutil.copytree(layout, tmp_path / "images")
    layer = json.loads(manifest_of(copy).read_bytes())["layers"][0]["digest"]
    content = blob_of(copy, layer).read_bytes()
    blob_of(copy, layer).unlink()
    if change:
        blob_of(copy, layer).write_bytes(change(content))
    with pytest.raises(SharingError, match=message):
        pull(f"oci:{copy}", tmp_path / "dist")
    assert_nothing_is_published(tmp_path / "dist")


def layer_with(*entries):
    """Return a tar of `(name, content, type)`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), "/etc/passwd"
            archive.addfile(entry, io.BytesIO(content))
    return layer.getvalue()


FILE = tarfile.REGTYPE
HOSTILE_LAYERS = {
    "a path that leads out": [("models/a/1/../../../out", b"x", FILE)],
    "an absolute path": [("/models/a/1/x", b"x", FILE)],
    "another folder": [("etc/passwd", b"x", FILE)],
    "a link": [("models/a/1/x", b"", tarfile.SYMTYPE)],
    "a hard link": [("models/a/1/x", b"", tarfile.LNKTYPE)],
    "a device": [("models/a/1/x", b"", tarfile.CHRTYPE)],
    "a pipe": [("models/a/1/x", b"", tarfile.FIFOTYPE)],
    "a long name": [(f"models/a/1/{'x' * 300}", b"x", FILE)],
    "two versions": [("models/a/1/x", b"x", FILE), ("models/a/2/x", b"x", FILE)],
    "a file twice": [("models/a/1/x", b"x", FILE), ("models/a/1/x", b"y", FILE)],
    "a file that is a folder": [("models/a/1/x", b"x", FILE), ("models/a/1/x/y", b"y", FILE)],
    "no bundle": [("models/a/1/x", b"x", FILE)],
    "nothing": [],
}


@pytest.mark.parametrize("kind", HOSTILE_LAYERS)
def test_a_hostile_layer_is_refused(kind, tmp_path):
    image = write_image(tmp_path / "images", b"{}", [(LAYER, layer_with(*HOSTILE_LAYERS[kind]))])
    with pytest.raises((SharingError, ManifestError)) as caught:
        pull(image, tmp_path / "dist")
    assert "\n" not in str(caught.value)
    assert_nothing_is_published(tmp_path / "dist")
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("size", [2**32, 2**70])
def test_a_layer_that_says_a_file_is_huge_is_refused(size, tmp_path):
    entry = tarfile.TarInfo("models/a/1/x")
    entry.size = size
    (tmp_path / "layer").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(2000))
    with pytest.raises((SharingError, ManifestError)):
        read_layer(tmp_path / "layer", tmp_path / "work")


def test_a_layer_with_more_than_the_bundle_is_refused(layout, tmp_path):
    (layer,) = json.loads(manifest_of(layout).read_bytes())["layers"]
    content = blob_of(layout, layer["digest"]).read_bytes()
    for number, more in enumerate([content + b"x", content + content]):
        image = write_image(tmp_path / str(number), b"{}", [(LAYER, more)])
        with pytest.raises(SharingError, match="as hornbill push writes it"):
            pull(image, tmp_path / "dist")
        assert_nothing_is_published(tmp_path / "dist")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": []}, "an image that hornbill push wrote. Received: no layer"),
        ({"layers": None}, "one image with layers, described as OCI does. Received: something"),
        ({"layers": [{}], "manifests": []}, "Received: an index of several images"),
        ({"layers": [{"mediaType": LAYER, "digest": "sha256:../../x", "size": 1}]}, "one image"),
        ({"layers": [{"mediaType": LAYER, "digest": "md5:0", "size": 1}]}, "one image"),
        (
            {"layers": [{"mediaType": LAYER, "digest": "sha256:" + "0" * 64, "size": -1}]},
            "one image",
        ),
        (
            {"layers": [{"mediaType": LAYER, "digest": "sha256:" + "0" * 64, "size": 10**18}]},
            "must have room for 1,000,000,000,000,000,000 bytes",
        ),
        (
            {"layers": [{"mediaType": f"{LAYER}+gzip", "digest": "sha256:" + "0" * 64, "size": 1}]},
            r"that hornbill push wrote. Received: application/vnd.oci.image.layer.v1.tar\+gzip",
        ),
    ],
)
def test_an_image_of_another_kind_is_refused(changes, message, tmp_path):
    image = write_image(tmp_path / "images", b"{}", **changes)
    with pytest.raises(SharingError, match=message):
        pull(image, tmp_path / "dist")
    assert_nothing_is_published(tmp_path / "dist")


@pytest.mark.parametrize(
    "index", ["", "{", "[]", '{"manifests": [{"digest": "../x"}]}', '{"manifests": 7}', "[" * 9999]
)
def test_an_index_of_another_kind_is_told(index, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "index.json").write_text(index)
    for call in (lambda to: pull(to, tmp_path / "dist"), lambda to: push(SOFTMAX, to)):
        with pytest.raises(SharingError, match="must be the index of an OCI image layout"):
            call(f"oci:{tmp_path}/images")


def test_a_layout_is_written_into_a_folder_of_its_own(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SharingError, match=r"folder of its own. .*holds 'thesis.tex'"):
        push(SOFTMAX, f"oci:{tmp_path}")
    with pytest.raises(SharingError, match="cannot be written: not a directory"):
        push(SOFTMAX, f"oci:{tmp_path}/thesis.tex/images")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("tag", ["", ":1", "@" + digest_of(b"")])
def test_a_place_that_does_not_exist_is_told(tag, rogue, tmp_path):
    for place, kind in ((f"oci:{tmp_path}/none", "image layout"), (f"{rogue[0]}/x", "repository")):
        with pytest.raises(SharingError) as caught:
            pull(place + tag, tmp_path / "dist")
        assert str(caught.value) == f"{place} must exist. Received: no such {kind}."
    assert_nothing_is_published(tmp_path / "dist")


def test_a_changed_bundle_is_not_pushed(tmp_path):
    copy = shutil.copytree(SOFTMAX, tmp_path / "1")
    (copy / "README.md").write_text("changed")
    with pytest.raises(ManifestError, match="README.md must have the SHA-256"):
        push(copy, f"oci:{tmp_path}/images")
    named = changed_copy(SOFTMAX, tmp_path / "named", name="../evil")
    with pytest.raises(ManifestError, match=r"name must be .* Received: name='../evil'"):
        push(named, f"oci:{tmp_path}/images")
    assert not (tmp_path / "images").exists()


def credentials(folder, host, password):
    word = base64.b64encode(f"maya:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": word}}}))


def test_credentials_of_docker_login_and_of_the_environment_are_used(
    guarded, tmp_path, monkeypatch
):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    place = f"{guarded}/team/softmax"
    refusal = "must accept the credentials, .* for team/softmax. Received: a refusal"
    for word in (None, "wrong"):
        if word:
            credentials(tmp_path, guarded, word)
        for call in (lambda: push(SOFTMAX, place), lambda: pull(place, tmp_path / "dist")):
            with pytest.raises(SharingError, match=refusal):
                call()
        assert_nothing_is_published(tmp_path / "dist")
    credentials(tmp_path, guarded, "right")
    pushed = push(SOFTMAX, place)
    (tmp_path / "config.json").unlink()
    monkeypatch.setenv("ORAS_USER", "maya")
    monkeypatch.setenv("ORAS_PASS", "right")
    assert pull(place, tmp_path / "dist").digest == pushed.digest
    monkeypatch.delenv("ORAS_USER")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SharingError, match="config.json cannot be read as credentials"):
        pull(place, tmp_path / "dist")


def test_a_registry_that_is_down_is_told_at_once(run, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("It waits, and tries again."))
    host = f"localhost:{free_port()}"
    status, output, error = run("push", SOFTMAX.parent, f"{host}/team/softmax")
    assert (status, output) == (2, "")
    assert error == (f"hornbill: The registry {host} must respond. Received: connection refused.\n")
    assert run("pull", f"{host}/team/softmax", "-o", tmp_path / "dist")[2] == error
    assert_nothing_is_published(tmp_path / "dist")


class Rogue(BaseHTTPRequestHandler):
    """A registry that asks for a token, keeps what is pushed, and sends what it likes."""

    answers: dict = {}  # noqa: RUF012

    def do_GET(self):
        self.answer(*self.answers.get(self.path, (404, {}, b"")))

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.read()
        self.answer(202, {"Location": f"{self.path}1"}, b"")

    def do_PUT(self):
        content = self.read()
        place, _, digest = self.path.partition("?digest=")
        answer = self.answers.get("push", (201, {}, b""))
        if not self.is_trusted() or answer[0] != 201:
            pass
        elif digest:
            assert digest_of(content) == unquote(digest)
            self.answers[place.replace("uploads/1", unquote(digest))] = (200, {}, content)
        else:
            name, tag = place.split("/manifests/")
            self.answers[place] = (200, {}, content)
            self.answers[f"{name}/tags/list"] = (200, {}, json.dumps({"tags": [tag]}).encode())
        self.answer(*answer)

    def read(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def is_trusted(self):
        wanted = self.answers.get("header")
        return not wanted or self.headers.get("Authorization") == wanted

    def answer(self, status, headers, body):
        if not self.is_trusted() and "token" not in self.path:
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="s"'
            status, headers, body = 401, {"WWW-Authenticate": realm}, b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def rogue():
    """The host of a rogue registry, and its answers by path, which a test fills."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rogue)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Rogue.answers = {"/v2/": (200, {}, b"{}")}
    yield f"127.0.0.1:{server.server_port}", Rogue.answers
    server.shutdown()
    server.server_close()
    thread.join()


def served(answers, layout, **changes):
    """Let a rogue registry serve the image of a layout as `x:1`; return its layer's path."""
    content = manifest_of(layout).read_bytes()
    image = json.loads(content)
    answers["/v2/x/manifests/1"] = (200, {}, content)
    answers["/v2/x/tags/list"] = (200, {}, b'{"name": "x", "tags": ["1"]}')
    for blob in (image["config"], *image["layers"]):
        body = blob_of(layout, blob["digest"]).read_bytes()
        answers[f"/v2/x/blobs/{blob['digest']}"] = (200, {}, body)
    return f"/v2/x/blobs/{image['layers'][0]['digest']}"


def test_a_token_is_fetched_and_a_wrong_one_is_told(rogue, layout, tmp_path, monkeypatch):
    host, answers = rogue
    monkeypatch.setenv("ORAS_USER", "maya")
    monkeypatch.setenv("ORAS_PASS", "secret")
    served(answers, layout)
    answers["header"] = "Bearer t1"
    answers["/token?service=s"] = (401, {}, b"")
    with pytest.raises(SharingError, match=r"must accept the credentials"):
        pull(f"{host}/x", tmp_path / "dist")
    answers["/token?service=s"] = (200, {}, b'{"token": "wrong"}')
    with pytest.raises(SharingError, match=r"must accept the credentials"):
        pull(f"{host}/x", tmp_path / "dist")
    assert_nothing_is_published(tmp_path / "dist")
    answers["/token?service=s"] = (200, {}, b'{"token": "t1"}')
    assert contents(pull(f"{host}/x", tmp_path / "dist").folder) == contents(SOFTMAX)


def test_a_bundle_is_pushed_to_a_registry_that_asks_for_a_token(rogue, tmp_path, monkeypatch):
    """Without Debian's registry too."""
    host, answers = rogue
    monkeypatch.setenv("ORAS_USER", "maya")
    monkeypatch.setenv("ORAS_PASS", "secret")
    answers["header"] = "Bearer t1"
    answers["/token?service=s"] = (200, {}, b'{"token": "wrong"}')
    with pytest.raises(SharingError, match="must accept the credentials"):
        push(SOFTMAX, f"{host}/x")
    answers["/token?service=s"] = (200, {}, b'{"token": "t1"}')
    pushed = push(SOFTMAX, f"{host}/x")
    assert digest_of(answers["/v2/x/manifests/1"][2]) == pushed.digest
    assert push(SOFTMAX, f"{host}/x") == pushed
    pulled = pull(f"{host}/x", tmp_path / "dist")
    assert (pulled.digest, contents(pulled.folder)) == (pushed.digest, contents(SOFTMAX))
    other = changed_copy(SOFTMAX, tmp_path / "copy", warnings=["changed"])
    with pytest.raises(SharingError, match=r"never overwritten. Received: .*:1, which is another"):
        push(other, f"{host}/x")


def test_a_registry_that_takes_no_more_is_told_and_gets_no_tag(rogue):
    host, answers = rogue
    answers["push"] = (507, {}, b'{"errors": [{"message": "the disk\\nis full"}]}')
    with pytest.raises(SharingError) as caught:
        push(SOFTMAX, f"{host}/x")
    assert str(caught.value) == (
        f"{host} must accept the request. Received: status 507, the disk is full."
    )
    assert "/v2/x/manifests/1" not in answers


@pytest.mark.parametrize("kind", ["cut", "other", "endless", "absent", "failing"])
def test_a_registry_that_sends_another_layer_is_found_out(kind, rogue, layout, tmp_path):
    host, answers = rogue
    path = served(answers, layout)
    body = answers[path][2]
    answers[path] = {
        "cut": (200, {"Content-Length": str(len(body))}, body[:-100]),
        "other": (200, {}, b"x" + body[1:]),
        "endless": (200, {}, body * 50),
        "absent": (404, {}, b""),
        "failing": (500, {}, b'{"errors": [{"message": "the disk\\nis full"}]}'),
    }[kind]
    with pytest.raises(SharingError) as caught:
        pull(f"{host}/x", tmp_path / "dist")
    assert "\n" not in str(caught.value)
    assert_nothing_is_published(tmp_path / "dist")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {}, b"<html>"), "must be an OCI registry. Received: status 404"),
        ((200, {"Content-Type": "text/html"}, b"<html>"), "must be an OCI registry. Received: an"),
        ((200, {}, b"hello"), "x must exist. Received: no such repository"),
    ],
)
def test_what_is_no_registry_is_told(answer, message, rogue, tmp_path):
    host, answers = rogue
    answers["/v2/"] = answer
    with pytest.raises(SharingError, match=message):
        pull(f"{host}/x", tmp_path / "dist")
    for tags in (b"<html>", b"[]", b"7"):
        answers["/v2/"] = answers["/v2/x/tags/list"] = (200, {}, tags)
        with pytest.raises(SharingError, match="must be an OCI registry. Received: an answer"):
            pull(f"{host}/x", tmp_path / "dist")


def test_an_interrupted_pull_leaves_nothing(layout, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(handing_on, "read_layer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pull(f"oci:{layout}", tmp_path / "dist")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ghcr.io/team/digits:1", ("https", "ghcr.io", "team/digits", "1", "")),
        ("oci://ghcr.io/team/digits", ("https", "ghcr.io", "team/digits", "", "")),
        ("http://models:5000/digits", ("http", "models:5000", "digits", "", "")),
        ("localhost/a.b/c__d-e", ("http", "localhost", "a.b/c__d-e", "", "")),
        ("127.0.0.1:5000/a:v1", ("http", "127.0.0.1:5000", "a", "v1", "")),
        ("[::1]:5000/a:v1", ("http", "[::1]:5000", "a", "v1", "")),
        (f"r.io/a:1@sha256:{'0' * 64}", ("https", "r.io", "a", "1", f"sha256:{'0' * 64}")),
        ("oci:images:1", ("", "", "", "1", "")),
        ("oci:/my images/x", ("", "", "", "", "")),
    ],
)
def test_a_reference_has_parts(text, place):
    found = parse_reference(text)
    assert (found.scheme, found.host, found.repository, found.tag, found.digest) == place
    assert (found.folder is not None) == (not found.host)
    assert parse_reference(found.at(found.tag, found.digest)) == found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://models:5000/digits", "http://models:5000/digits:1"),
        ("https://localhost:5000/digits", "https://localhost:5000/digits:1"),
        ("http://localhost:5000/digits", "localhost:5000/digits:1"),
        ("https://r.io/digits", "r.io/digits:1"),
        ("oci://r.io/digits", "r.io/digits:1"),
    ],
)
def test_a_reference_is_shown_with_a_scheme_that_its_host_does_not_have_by_itself(text, shown):
    assert parse_reference(text).at("1") == shown


@pytest.mark.parametrize(
    "text",
    ["", "digits", "digits:1", "Team/digits", "ghcr.io/Team/digits", "oci:", "oci://", "r.io/a:",
     "r.io/a:..", "r.io/a@sha256:0", "r.io/../a", "r.io//a", "ftp://r.io/a", "r.io/a b", "r.io/a\n",
     "user:secret@r.io/a", "r.io:x/a"],
)  # fmt: skip
def test_what_is_no_reference_is_told(text):
    with pytest.raises(SharingError, match=r"must be HOST/NAME:TAG"):
        parse_reference(text)


def test_credentials_in_a_reference_are_not_shown():
    with pytest.raises(SharingError, match=r"Received: 'https://r.io/a'") as told:
        parse_reference("https://maya:secret@r.io/a")
    assert "secret" not in str(told.value)


def test_a_folder_of_temporary_files_without_room_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SharingError, match=r"TMPDIR, must have room .*: no such file or directory"):
        push(SOFTMAX, f"oci:{tmp_path}/images")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(handing_on, "write_layer", lambda *_: Path("/dev/full").write_text("x"))
    with pytest.raises(SharingError, match=r"TMPDIR, must have room .*: no space left on device"):
        push(SOFTMAX, f"oci:{tmp_path}/images")


def test_the_commands_say_what_they_did_and_what_is_next(run, tmp_path):
    image = f"oci:{tmp_path}/images"
    _, output, _ = run("push", SOFTMAX.parent, image)
    first, second, third = output.splitlines()
    assert first == f"pushed: {image}:1"
    assert third == f"next: hornbill pull {image}:1"
    found = json.loads(run("push", SOFTMAX.parent, image, "--json")[1])
    assert found == {"image": f"{image}:1", "digest": second.removeprefix("digest: ")}
    pulled = json.loads(run("pull", image, "-o", tmp_path / "dist", "--json")[1])
    assert pulled == {**found, "bundle": f"{tmp_path}/dist/softmax/1"}
    _, output, _ = run("pull", image, "-o", tmp_path / "dist")
    assert output.splitlines() == [
        f"pulled: {tmp_path}/dist/softmax/1",
        second,
        f"next: hornbill verify {tmp_path}/dist/softmax",
    ]


def test_the_receivers_check_of_the_documentation_runs(monkeypatch, capsys):
    page = BUNDLES.parents[1] / "docs" / "sharing.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(BUNDLES)
    exec(code, {})  # noqa: S102
    differences = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(differences) == ["probabilities", "features"]
    assert all(float(difference) < 1e-5 for difference in differences.values())
