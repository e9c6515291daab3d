"""The page of a version that repeats its proof in a browser, in headless Chromium, from disk."""

import base64
import hashlib
import http.server
import json
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import threading
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import trustme
from checksums import write_checksums
from filelock import FileLock
from onnx import TensorProto, numpy_helper, shape_inference
from playwright.sync_api import expect, sync_playwright

import export
from export import ExportOptions, ModelFacts, export_bundle
from export.browser_proof import write_browser_proof
from serving.decisions import decide

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TEMPLATE = (Path(export.__file__).parent / "verify.html").read_text()
INTEGRITY = dict(re.findall(r'"(ort[^"]+)":\s+"(sha384-[^"]+)"', TEMPLATE))
(PACKAGE,) = set(re.findall(r"onnxruntime-web@[\d.]+", TEMPLATE))
LABEL = "<img src=x onerror=alert(1)>"
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan",
)  # fmt: skip
expect.set_options(timeout=60_000)  # a busy machine must not fail a test


@pytest.fixture(scope="module")
def runtime(request):
    """The folder `dist` of onnxruntime-web's npm package, kept between runs of pytest.

    Files that are not pinned are empty. Processes of pytest-xdist share the folder.
    """
    folder = request.config.cache.mkdir(f"{PACKAGE}-folder")
    dist = folder / "package" / "dist"
    with FileLock(folder / ".lock"):
        if not all((dist / name).exists() for name in INTEGRITY):
            with tempfile.TemporaryDirectory(dir=folder) as new:
                fetch_package(Path(new))
                shutil.rmtree(folder / "package", ignore_errors=True)
                Path(new, "package").rename(folder / "package")
    return dist


def fetch_package(folder):
    """Unpack onnxruntime-web's npm package into a folder; skip the test if it is out of reach."""
    npm = shutil.which("npm") or pytest.skip("no npm on the PATH")
    packed = subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=folder, check=False)
    if packed.returncode:
        pytest.skip("npm's registry cannot be reached")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as files:
        for member in filter(tarfile.TarInfo.isfile, files):
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            is_pinned = path.parent.name == "dist" and path.name in INTEGRITY
            path.write_bytes(files.extractfile(member).read() if is_pinned else b"")


class Network:
    """The CDN: a folder served by TLS under its name."""

    def __init__(self, folder):
        network = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rsplit("/", 1)[-1]
                assert self.path == f"/npm/{PACKAGE}/dist/{name}"
                content = (folder / name).read_bytes() + network.added
                self.send_response(200)
                self.send_header("access-control-allow-origin", "*")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.added = b""  # to each file
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("cdn.jsdelivr.net").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def arguments(self):
        port = self.server.server_address[1]
        return [
            "--no-sandbox",
            "--ignore-certificate-errors",
            f"--host-resolver-rules=MAP cdn.jsdelivr.net:443 127.0.0.1:{port}, "
            "MAP plain.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]


@pytest.fixture(scope="module")
def network(runtime):
    network = Network(runtime)
    yield network
    network.server.shutdown()
    network.server.server_close()


@pytest.fixture(scope="module")
def browser(network):
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=network.arguments)
        yield browser
        browser.close()


@pytest.fixture
def version(exported_bundle, tmp_path):
    """A copy of a fresh export, to be changed."""
    return shutil.copytree(exported_bundle, tmp_path / "digits" / "1")


@pytest.fixture(scope="module")
def page(browser, exported_bundle):
    """The page of a version, opened from disk once: it loads the runtime once."""
    page = browser.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.goto((exported_bundle / "verify.html").as_uri())
    yield page
    assert not wrong


def expect_pass(page, rows=32):
    expect(page.locator("#verdict")).to_have_text("PASS")
    assert page.locator("td.pass").count() == rows == page.locator("#rows tr").count()
    expect(page.locator("#trouble")).to_be_hidden()


def test_the_pinned_runtime_is_that_of_the_npm_package(runtime):
    assert len(INTEGRITY) == 4
    for name, pinned in INTEGRITY.items():
        digest = hashlib.sha384((runtime / name).read_bytes()).digest()
        assert pinned == f"sha384-{base64.b64encode(digest).decode()}", name


def test_a_page_from_disk_passes_each_golden_sample(exported_bundle, page):
    expect_pass(page)
    digest = hashlib.sha256((exported_bundle / "model.onnx").read_bytes()).hexdigest()
    expect(page.locator("#origin")).to_contain_text(digest)
    assert page.locator("canvas").count() == 32
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def change_output(version, row, column, change):
    """Add to an element of the first golden output."""
    file = version / "test_data_set_0" / "output_0.pb"
    tensor = onnx.load_tensor(file)
    array = numpy_helper.to_array(tensor).copy()
    array[row, column] += change
    onnx.save_tensor(numpy_helper.from_array(array, tensor.name), file)
    write_checksums(version)


def expect_one_failure(page, version, row, detail):
    page.locator("#folder").set_input_files(version)
    expect(page.locator("#verdict")).to_have_text("FAIL")
    assert page.locator("td.fail").count() == 1
    expect(page.locator("#rows tr").nth(row).locator("td.fail")).to_contain_text(detail)


@pytest.mark.parametrize(("change", "shown"), [(3e-5, "3.0e-5"), (float("nan"), "NaN")])
def test_a_changed_output_fails_its_sample_and_no_other(change, shown, version, page):
    change_output(version, 5, 3, change)
    expect_one_failure(page, version, 5, f"probabilities differs by {shown}; allowed is 1.0e-5")


def test_each_value_is_compared_with_its_own_magnitude(page, tmp_path):
    start = keras.Input((4,), name="inputs")
    dense = keras.layers.Dense(2)
    model = keras.Model(start, {"values": dense(start)})
    dense.set_weights([np.ones((4, 2)) * [1e6, 1e-4], np.zeros(2)])
    facts = ModelFacts(task="regression", labels=("price", "rate"))
    version = export_bundle(model, tmp_path, "houses", facts, options=ExportOptions(int8="never"))
    page.locator("#folder").set_input_files(version)
    expect(page.locator("#title")).to_contain_text("houses")
    expect(page.locator("#verdict")).to_have_text("PASS")
    change_output(version, 5, 1, 1.0)
    expect_one_failure(page, version, 5, "values differs by 1.0e+0; allowed is 1.0e-4")


def enlarge(version):
    """Make a graph so large that the page does not contain it."""
    model = onnx.load(version / "model.onnx")
    model.metadata_props.add(key="padding", value="x" * 2_000_000)
    onnx.save(model, version / "model.onnx")
    write_browser_proof(version)
    write_checksums(version)


def test_a_web_server_must_be_one_for_which_browsers_compute_hashes(version, browser):
    enlarge(version)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=version)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page()
    try:
        page.goto(f"http://plain.example:{server.server_port}/verify.html")
        expect(page.locator("#verdict")).to_have_text("Waiting for a secure page")
        assert page.locator("#verdict").get_attribute("class") == ""
        expect(page.locator("#summary")).to_contain_text("https, this machine or the disk")
        expect(page.locator("#trouble")).to_be_hidden()
        page.goto(f"http://127.0.0.1:{server.server_port}/verify.html")
        expect_pass(page)
        expect(page.locator("#origin")).to_contain_text(
            "The manifest, the graph and the golden samples beside this page match its SHA256SUMS."
        )
    finally:
        page.close()
        server.shutdown()
        server.server_close()


def test_a_gpu_that_cannot_run_the_graph_is_told_and_fails_nothing(exported_bundle, browser):
    page = browser.new_page()
    try:
        gpu = "{ value: { requestAdapter: async () => ({}) } }"
        page.add_init_script(f"Object.defineProperty(navigator, 'gpu', {gpu})")
        page.goto((exported_bundle / "verify.html").as_uri())
        expect_pass(page)
        expect(page.locator("#summary")).to_contain_text("32 of 32 in WebAssembly")
        expect(page.locator("#summary")).to_contain_text("WebGPU could not run it: ")
    finally:
        page.close()


def test_decisions_are_those_of_the_thresholds_and_go_with_their_model(version, page, tmp_path):
    path = version / "manifest.json"
    manifest = json.loads(path.read_text())
    thresholds = [0.91, *[0.01] * 9]
    path.write_text(json.dumps(manifest | {"thresholds": {"values": thresholds}}))
    write_checksums(version)
    golden = numpy_helper.to_array(onnx.load_tensor(version / "test_data_set_0" / "output_0.pb"))
    places = decide("multiclass", golden, thresholds)
    assert (places != golden.argmax(axis=1)).any()
    predicted = [re.compile(f"^{manifest['labels'][place]} ") for place in places]
    for name in ("manifest.json", "notes.txt"):  # of another model, and of none
        page.locator("#folder").set_input_files(version)
        expect(page.locator("#rows td:nth-child(2)")).to_have_text(predicted)
        expect_pass(page)
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("{}")
        page.locator("#folder").set_input_files(folder)
        expect(page.locator("#verdict")).to_have_text("FAIL")
        expect(page.locator("#title")).to_have_text("Proof in this browser")
        expect(page.locator("#results")).to_be_hidden()
        expect(page.locator("#origin")).to_be_hidden()


def test_a_large_model_is_read_from_its_folder_which_must_match_its_checksums(version, page):
    enlarge(version)
    page.goto((version / "verify.html").as_uri())
    assert (version / "verify.html").stat().st_size < 40_000
    expect(page.locator("#verdict")).to_have_text("Waiting for the folder")
    page.locator("#folder").set_input_files(version.parent)
    expect_pass(page)
    expect(page.locator("#origin")).to_contain_text("All files of the folder match its SHA256SUMS.")
    card = version / "README.md"
    card.write_text(card.read_text() + " ")
    page.locator("#folder").set_input_files(version)
    expect(page.locator("#trouble")).to_have_text(
        "README.md must have the SHA-256 listed in SHA256SUMS. Received: another one."
    )
    expect(page.locator("#verdict")).to_have_text("FAIL")
    card.unlink()
    page.locator("#folder").set_input_files(version)
    expect(page.locator("#trouble")).to_contain_text("Received: no README.md.")
    (version / "more.txt").write_text("")
    write_checksums(version)
    (version / "unlisted.txt").write_text("")
    page.locator("#folder").set_input_files(version)
    expect(page.locator("#trouble")).to_contain_text("Received: unlisted.txt.")


def test_a_runtime_that_is_not_the_pinned_one_never_runs_and_files_can_be_dropped_instead(
    exported_bundle, browser, network, runtime, tmp_path
):
    network.added = b" "
    page = browser.new_page()  # what was dropped may hold up the next file of the same page
    try:
        page.goto((exported_bundle / "verify.html").as_uri())
        expect(page.locator("#verdict")).to_have_text("Waiting for the runtime")
        assert page.locator("#verdict").get_attribute("class") == ""
        expect(page.locator("#summary")).to_contain_text(f"npm pack {PACKAGE}")
        expect(page.locator("#trouble")).to_be_hidden()
        folder = shutil.copytree(runtime.parent, tmp_path / "package") / "dist"
        assert len(list(folder.iterdir())) > len(INTEGRITY)  # as npm packs it
        (folder / "ort.wasm.bundle.min.mjs").write_bytes(b"alert(1)")
        drop(page, folder)
        expect(page.locator("#trouble")).to_contain_text("Received: another file.")
        shutil.copy(runtime / "ort.wasm.bundle.min.mjs", folder)
        drop(page, folder)
        expect_pass(page)
        drop(page, folder.parent)
        expect_pass(page)
    finally:
        network.added = b""
        page.close()


def drop(page, folder):
    """Drop a folder of the disk onto the title of the page: the whole page takes it."""
    box = page.locator("#title").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


def test_texts_of_a_manifest_are_never_markup(version, page):
    path = version / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"labels": [f"{LABEL}{n}" for n in range(10)], "name": LABEL}
    path.write_text(json.dumps(manifest))
    write_checksums(version)
    page.locator("#folder").set_input_files(version)
    expect(page.locator("#title")).to_contain_text(LABEL)
    expect_pass(page)
    expect(page.locator("#rows")).to_contain_text(LABEL)
    assert page.locator("img").count() == 0


def test_rows_with_texts_pass_too(exported_raw_bundle, page):
    page.locator("#folder").set_input_files(exported_raw_bundle[0])
    expect(page.locator("#title")).to_contain_text("raw")
    expect_pass(page, rows=33)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exported_bundle", "exported_row_bundle"])
def test_webgpu_passes_each_golden_sample(name, request, network):
    version = request.getfixturevalue(name)
    with sync_playwright() as playwright:
        arguments = [*network.arguments, *SOFTWARE_GPU]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        page.goto((version / "verify.html").as_uri())
        expect(page.locator("#verdict")).to_have_text("PASS", timeout=300_000)
        assert page.locator("td.webgpu.pass").count() == 32
        browser.close()


@pytest.mark.parametrize("variant", ["cnn", pytest.param("resnet", marks=pytest.mark.slow)])
def test_digit_graphs_compute_no_integers_which_webgpu_lacks(variant):
    from export.inference import trace_inference
    from export.onnx.convert import convert_to_onnx
    from models.config.digits import DigitNetConfig
    from models.digits import digit_net

    graph = convert_to_onnx(trace_inference(digit_net(DigitNetConfig(variant=variant))), {})
    require_floats(graph)


def test_the_exported_digit_graph_computes_no_integers(exported_bundle):
    require_floats(onnx.load(exported_bundle / "model.onnx"))


def require_floats(model):
    """Require that all tensors but the constants of shapes and axes are floats or truth values."""
    graph = shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in node.output:
            assert types[name] in (TensorProto.FLOAT, TensorProto.BOOL), name
