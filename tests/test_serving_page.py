"""The page in headless Chromium: drawing, dropping files, photographs, the keyboard, a phone."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from checksums import write_checksums
from color_bundles import write_color_bundle
from hostile_graphs import rename
from live import start
from PIL import Image, ImageDraw
from playwright.sync_api import expect, sync_playwright
from test_serving_decisions import INTERVALS, LABELS
from waiting import wait_until

from serving.golden import DRAWN
from serving.images import fit_and_pad
from serving.server import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "secret"  # noqa: S105  # of a server that ends with the test
LABEL = "<img src=x onerror=alert(1)>"

expect.set_options(timeout=30_000)  # a busy machine must not fail a test
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def client(bundle, row_bundle):
    client, stop = start(Settings(bundle.parent.parent, log_requests=False))
    yield client
    stop()


@pytest.fixture
def open_page(browser):
    """Open the page of a server; requests to other hosts and errors in the page fail the test."""
    contexts, wrong = [], []

    def open_page(client, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        home = f"http://127.0.0.1:{client.port}/"
        page.on(
            "request", lambda r: r.url.startswith((home, "data:", "blob:")) or wrong.append(r.url)
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(home)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def draw(page, press, move, lift):
    """Draw a stroke from the top to the bottom of the drawing area."""
    area = page.locator("#drawing")
    expect(area).to_be_visible()  # once the model is known
    box = area.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"]
    press(x, y + 0.2 * box["height"])
    for share in (0.4, 0.6, 0.8):
        move(x, y + share * box["height"])
    lift()


def draw_with_mouse(page):
    def press(x, y):
        page.mouse.move(x, y)
        page.mouse.down()

    draw(page, press, page.mouse.move, page.mouse.up)


@contextmanager
def last_prediction(page):
    """Draw a stroke, and wait for the last prediction.

    The page predicts while a stroke is drawn, one image at a time. The first prediction is held
    until all is drawn, so that one more is to come, that of the whole stroke.
    """
    held = []

    def hold(route):  # Playwright keeps an attribute of its own on the function
        held.append(route)

    page.route("**/images/**", hold, times=2)
    yield
    for _ in range(2):
        deadline = time.monotonic() + 30  # a busy machine must not fail a test
        while not held:
            assert time.monotonic() < deadline, "the page sends no image"
            page.wait_for_timeout(20)
        page.evaluate("document.getElementById('latency').textContent = ''")
        held.pop().continue_()
    expect(page.locator("#latency")).to_contain_text("round trip")


# The label and the lines of the bars, of one prediction: another may arrive at any time.
SHOWN = """() => [document.getElementById("label").innerText,
  Array.from(document.querySelectorAll("#bars tr"), row => row.innerText)]"""


def expect_prediction(page):
    """Expect a prediction: a label, ten bars that sum to 100%, the image, and the latency."""
    expect(page.locator("#latency")).to_contain_text("round trip")
    label, rows = page.evaluate(SHOWN)
    texts = [row.split("\t") for row in rows]
    shares = {name.strip(): float(text[-1].strip("% ")) for name, *text in texts}
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert max(shares, key=shares.__getitem__) == label
    expect(page.locator("#badge")).to_be_hidden()  # the model rejects nothing
    assert page.locator("#size").inner_text().split()[::2] == ["28", "28"]
    return label, shares


# The brightest value of each column of the image that the page shows.
COLUMNS = """() => {
  const canvas = document.getElementById("picture")
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
  const red = data.filter((_, place) => place % 4 === 0)
  return Array.from({ length: canvas.width }, (_, column) =>
    Math.max(...red.filter((_, place) => place % canvas.width === column)))
}"""


def seen_image(page):
    """Return the image as the model sees it, read from the page, uint8 (28, 28)."""
    text = page.evaluate("document.getElementById('picture').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("L"))


def photograph():
    """Return the PNG file of a red ball at the left of a gray photograph of 400x200 pixels."""
    image = Image.new("RGB", (400, 200), (128, 128, 128))
    ImageDraw.Draw(image).ellipse((60, 60, 140, 140), fill=(255, 0, 0))
    return file_of(np.asarray(image))


def file_of(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def hand_over(page, event, target, file, name="digit.png", kind="image/png"):
    """Drop or paste a file."""
    page.evaluate(
        """([event, target, text, name, type]) => {
          const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0))
          const data = new DataTransfer()
          data.items.add(new File([bytes], name, { type }))
          const options = { bubbles: true, cancelable: true }
          const init = { ...options, dataTransfer: data, clipboardData: data }
          const Made = event === "drop" ? DragEvent : ClipboardEvent
          document.querySelector(target).dispatchEvent(new Made(event, init))
        }""",
        [event, target, base64.b64encode(file).decode(), name, kind],
    )


def test_the_prediction_is_updated_while_drawing(client, open_page):
    page = open_page(client)
    expect(page.locator("#rows")).to_contain_text("digits")
    responses = []
    page.on("response", lambda r: "/images/" in r.url and responses.append(r))
    draw_with_mouse(page)
    expect_prediction(page)
    # An incomplete stroke fills the image, so wait until all of it was sent. The policy of the
    # page forbids `wait_for_function`, which evaluates text.
    for _ in range(100):
        if not any(page.evaluate(COLUMNS)[:6]):
            break
        page.wait_for_timeout(50)
    assert not any(page.evaluate(COLUMNS)[:6])
    assert seen_image(page)[:, 13:15].max() > 200
    draw_with_mouse(page)
    page.locator("#clear").click()
    expect(page.locator("#label")).to_be_empty()
    assert len(responses) >= 2
    assert all(response.status == 200 for response in responses)


@pytest.mark.parametrize(("event", "target"), [("drop", "body"), ("paste", "body")])
def test_an_image_can_be_dropped_or_pasted(event, target, client, open_page, images):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    file = file_of(images[0])
    hand_over(page, event, target, file)
    label, shares = expect_prediction(page)
    response = json.loads(client("POST", "/images/digits", file)[2])
    assert label == response["label"]
    assert list(shares.values()) == pytest.approx(
        [100 * share for share in response["probabilities"]], abs=0.06
    )
    np.testing.assert_array_equal(seen_image(page), images[0])


def test_what_was_done_last_counts_and_what_is_shown_can_be_copied(client, open_page, images):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    sample, save, code = (page.locator(at) for at in ("#samples button", "#save", "#code"))
    expect(save).to_be_disabled()  # there is nothing to save yet
    sample.first.click()
    expect(sample.first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Control+z")
    expect(sample.first).to_have_attribute("aria-pressed", "false")
    page.evaluate(
        """() => {
          const decode = createImageBitmap
          const later = new Promise(resolve => { window.goOn = resolve })
          window.createImageBitmap = async file => { await later; return decode(file) }
        }"""
    )
    hand_over(page, "drop", "body", file_of(images[0]))
    draw_with_mouse(page)  # while the file is decoded
    expect_prediction(page)
    page.evaluate("goOn()")
    page.wait_for_timeout(100)
    assert "drawing.png" in code.text_content()
    expect(save).to_be_enabled()
    copy = page.locator("#copy")
    for way, said in (
        ("navigator, 'clipboard', { value: undefined }", "Copied"),  # as on plain HTTP
        ("document, 'execCommand', { value: () => false }", "Selected: press Ctrl+C"),
    ):
        page.evaluate(f"() => {{ Object.defineProperty({way}) }}")
        copy.click()
        expect(copy).to_have_text(said)
        assert page.evaluate("String(getSelection())") == code.text_content()
    expect(copy).to_have_text("Copy")


def test_a_proxy_that_answers_is_told_and_asked_again_only_if_that_may_help(client, open_page):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    asked = []

    def refuse(status):
        def answer(route):  # Playwright keeps an attribute of its own on the function
            asked.append(status)
            route.fulfill(status=status, content_type="text/html", body="<h1>nginx</h1>")

        return answer

    page.route("**/images/**", refuse(413))
    page.locator("#samples button").first.click()
    expect(page.locator("#error")).to_have_text(
        "A proxy answered in place of the server: status 413."
    )
    page.unroute("**/images/**")
    page.route("**/images/**", refuse(502), times=1)
    page.locator("#samples button").nth(1).click()
    expect(page.locator("#error")).to_contain_text("status 502")
    expect_prediction(page)  # seconds later
    assert asked == [413, 502]


def test_a_file_that_is_not_an_image_is_reported(client, open_page):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    hand_over(page, "drop", "body", b"no image")
    expect(page.locator("#error")).to_contain_text("cannot be read as an image, such as PNG")


TAKEN = "Drop, paste or open a PNG, JPEG, BMP, GIF, TIFF or WebP file."


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ((b"%PDF-1.7", "report.pdf", "application/pdf"), "report.pdf is not an image."),
        ((b"some text", "notes.txt", "text/plain"), "notes.txt is not an image."),
        ((b"some text", "notes", ""), "notes cannot be read as an image, such as PNG or JPEG."),
        ((b"\0" * 9, "a.png"), "a.png cannot be read as an image, such as PNG or JPEG."),
        (
            (b"\0\0\0\x18ftypheic", "a.heic", "image/heic"),
            "a.heic cannot be read, since HEIC and AVIF are not supported: convert it to JPEG.",
        ),
    ],
)
def test_a_dropped_file_that_is_no_image_is_named_with_what_can_be_dropped(
    file, message, client, open_page, images
):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    hand_over(page, "drop", "body", *file)
    expect(page.locator("#error")).to_have_text(f"{message} {TAKEN}")
    expect(page.locator("#label")).to_be_empty()
    hand_over(page, "drop", "body", file_of(images[0]))
    expect_prediction(page)
    expect(page.locator("#error")).to_be_hidden()


def test_a_folder_is_no_file_to_drop(client, open_page):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    page.evaluate("() => { Blob.prototype.arrayBuffer = () => Promise.reject(new Error()) }")
    hand_over(page, "drop", "body", b"", "photos", "")
    expect(page.locator("#error")).to_have_text(f"photos cannot be read as a file. {TAKEN}")


def test_a_finger_draws_on_a_phone(client, open_page):
    page = open_page(client, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    expect(page.locator("#bars tr")).to_have_count(10)
    expect(page.locator("#seen")).to_have_class("nothing")
    devtools = page.context.new_cdp_session(page)

    def touch(kind, *points):
        places = [{"x": x, "y": y} for x, y in points]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    draw(
        page,
        lambda x, y: touch("touchStart", (x, y)),
        lambda x, y: touch("touchMove", (x, y)),
        lambda: touch("touchEnd"),
    )
    expect_prediction(page)
    expect(page.locator("#seen")).to_have_class("")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    lines = page.evaluate(
        "[...document.querySelectorAll('.ready')].map(state => state.getClientRects().length)"
    )
    assert set(lines) == {1}, "a word is broken"


def test_the_keyboard_alone_draws(client, open_page):
    page = open_page(client)
    expect(page.locator("#bars tr")).to_have_count(10)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "drawing":
            break
    with last_prediction(page):
        page.keyboard.press("Space")
        for _ in range(4):
            page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Space")
    label, _ = expect_prediction(page)
    expect(page.get_by_role("status")).to_contain_text(label)
    page.keyboard.press("Escape")
    expect(page.locator("#label")).to_be_empty()


def write_own_net(bundle, folder):
    """Copy `digits` as a net of somebody else, who gets every image as it is."""
    version = shutil.copytree(bundle, folder / "1")
    manifest = json.loads((version / "manifest.json").read_text())
    (version / "manifest.json").write_text(json.dumps(manifest | {"family": "keras"}))
    rename(version, folder.name)


@pytest.fixture(scope="module")
def color_client(bundle, tmp_path_factory):
    """A server of a model of photographs for each task, and of the digit net."""
    folder = tmp_path_factory.mktemp("colors")
    for task in ("multiclass", "multilabel", "regression"):
        write_color_bundle(folder, bundle, task, name=task)
    write_color_bundle(folder, bundle, "multilabel", name="careful", thresholds=LABELS)
    write_color_bundle(
        folder, bundle, "regression", name="ranges", intervals=INTERVALS,
        target_units={"green": "lm"},
    )  # fmt: skip
    rare = LABELS | {"values": [0.8, 0.1, 0.1], "rule": "class_weight=balanced"}
    write_color_bundle(folder, bundle, name="rare", thresholds=rare)
    shutil.copytree(bundle.parent, folder / "digits")
    write_own_net(bundle, folder / "own")
    client, stop = start(Settings(folder, log_requests=False))
    yield client
    stop()


def open_model(open_page, client, name, **options):
    page = open_page(client, **options)
    page.locator("#model").select_option(name)
    expect(page.locator("#photo")).to_be_visible()
    return page


def test_a_photograph_is_dropped_where_a_digit_would_be_drawn(color_client, open_page):
    page = open_model(open_page, color_client, "multiclass")
    for name in ("#drawing", "#undo", "#keys", "#camera"):
        expect(page.locator(name)).to_be_hidden()
    hand_over(page, "drop", "body", photograph())
    expect(page.locator("#label")).to_have_text("red")
    expect(page.locator("#size")).to_contain_text("32")
    response = json.loads(color_client("POST", "/images/multiclass", photograph())[2])
    shares = [
        float(text.strip("%")) for text in page.locator("#bars td:last-child").all_inner_texts()
    ]
    assert shares == pytest.approx([100 * p for p in response["probabilities"]], abs=0.06)
    choose_model(page, "digits")
    expect(page.locator("#photo")).to_be_hidden()
    expect(page.locator("#mattered")).to_be_hidden()


def test_a_drawing_for_any_net_has_the_ink_of_its_data(color_client, open_page):
    page = open_page(color_client)
    choose_model(page, "own")
    with last_prediction(page):
        draw_with_mouse(page)
    seen = seen_image(page)
    assert not seen[:, :8].any()
    assert seen[:, 13:15].max() > 200


def test_a_model_without_its_samples_leaves_the_others_to_be_chosen(color_client, open_page):
    page = open_page(color_client)
    expect(page.locator("#bench")).to_be_visible()
    failed = {"status": 500, "json": {"error": "The server failed."}}
    page.route("**/multilabel/versions/1/samples", lambda route: route.fulfill(**failed))
    page.locator("#model").select_option("multilabel")
    expect(page.locator("#trouble")).to_have_text("multilabel cannot be tried: The server failed.")
    expect(page.locator("#bench")).to_be_hidden()
    choose_model(page, "digits")
    expect(page.locator("#trouble")).to_be_hidden()


def test_what_thresholds_predict_is_explained_and_among_the_bars(color_client, open_page):
    page = open_model(open_page, color_client, "rare")
    hand_over(page, "drop", "body", file_of(np.full((9, 9, 3), (130, 128, 128), np.uint8)))
    expect(page.locator("#label")).to_have_text("green")
    expect(page.locator("#meaning")).to_contain_text("the probability of green falls")
    listed = color_client.get("/models")[1]["models"]
    (rare,) = (row for row in listed if row["name"] == "rare")
    labels = [*"abcdefghijklm"]
    many = rare | {"labels": labels, "created": "later", "thresholds": [1 / 13] * 13}
    answer = json.loads(color_client("POST", "/images/rare", photograph())[2])
    answer |= {"label": "m", "probabilities": [0.08] * 12 + [0.04]}
    page.route("**/models", lambda route: route.fulfill(json={"models": [many]}))
    page.route("**/images/**", lambda route: route.fulfill(json=answer))
    page.evaluate("dispatchEvent(new Event('focus'))")  # the version has changed under its number
    expect(page.locator("#bars tr")).to_have_count(10)
    expect(page.locator("#bars .best th")).to_have_text("m")
    page.unroute("**/models")
    page.route("**/models", lambda route: route.fulfill(json={"models": []}))
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#bench")).to_be_hidden()


# The colors of the photograph's frame at places from 0 to 1, as the page shows it.
COLORS = """places => {
  const canvas = document.getElementById("view")
  const context = canvas.getContext("2d")
  return places.map(([x, y]) => {
    const { data } = context.getImageData(x * canvas.width, y * canvas.height, 1, 1)
    return Array.from(data.slice(0, 3))
  })
}"""
# Keeps the pixels of the copies that the page sends, as promises of lists.
KEEP_COPIES = """() => {
  const send = window.fetch
  window.sent = []
  window.fetch = (path, options) => {
    const start = options?.headers?.["inference-header-content-length"]
    if (start) sent.push(options.body.slice(start).arrayBuffer()
      .then(bytes => Array.from(new Uint8Array(bytes))))
    return send(path, options)
  }
}"""
# The ball is at a quarter of the photograph's width; the frame is square.
BALL, BESIDE = (0.25, 0.5), (0.75, 0.5)


def test_the_pixels_that_mattered_are_those_of_the_ball(color_client, open_page):
    page = open_model(open_page, color_client, "multiclass")
    hand_over(page, "drop", "body", photograph())
    expect(page.locator("#meaning")).to_contain_text("more the probability of red falls")
    page.wait_for_timeout(50)  # until it is painted
    (red, green, blue), beside = page.evaluate(COLORS, [BALL, BESIDE])
    assert red > green + 60
    assert green > blue  # the orange of the map, not the red of the ball
    assert max(beside) - min(beside) < 20
    # Without the quarter in which the ball is, the image is gray.
    probability = float(page.locator(".best td:last-child").inner_text().strip("%"))
    drop = float(page.locator("#highest").inner_text().split()[0])
    assert drop == pytest.approx(probability - 100 / 3, abs=5)
    page.locator("#explained").select_option("green")
    expect(page.locator("#meaning")).to_contain_text("probability of green falls")
    expect(page.locator("#highest")).to_have_text("5.0 points")  # nothing supports green
    page.locator("#heat").uncheck()
    page.wait_for_timeout(50)
    assert page.evaluate(COLORS, [BALL]) == [[255, 0, 0]]
    expect(page.locator("#legend")).to_be_hidden()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])  # which browsers do not show
@pytest.mark.parametrize("size", [(400, 200), (200, 400), (320, 25)])  # 2.5 lines
def test_only_the_photograph_is_grayed_and_colored_and_not_its_padding(
    kind, size, color_client, open_page
):
    page = open_model(open_page, color_client, "multiclass")
    width, height = size
    levels = np.random.default_rng(0).integers(110, 130, (height, width, 3), np.uint8)
    levels[..., 0] = 140  # and so is the padding, so that graying it would matter
    levels[0] = levels[-1] = levels[:, 0] = levels[:, -1] = (140, 128, 128)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, kind)
    page.evaluate(KEEP_COPIES)
    hand_over(page, "drop", "body", file.getvalue())
    expect(page.locator("#meaning")).to_contain_text("more the probability of red falls")
    page.wait_for_timeout(50)  # until it is painted
    seen = fit_and_pad(levels, (32, 32))
    down, across = max(1, round(32 * height / max(size))), max(1, round(32 * width / max(size)))
    inside = np.zeros((32, 32), bool)
    top, left = (32 - down) // 2, (32 - across) // 2
    inside[top : top + down, left : left + across] = True
    grayed = np.zeros((32, 32), bool)
    for copies in page.evaluate("Promise.all(sent)"):
        differ = np.array(copies, np.uint8).reshape(-1, 32, 32, 3) != seen
        grayed |= differ.any(axis=(0, 3))
    np.testing.assert_array_equal(grayed, inside)
    beside = (0.5, 0.05) if width > height else (0.05, 0.5)
    middle, padding = page.evaluate(COLORS, [(0.5, 0.5), beside])
    assert middle[1] > middle[2] + 5  # the orange of the map
    page.locator("#heat").uncheck()
    page.wait_for_timeout(50)
    plain, expected = page.evaluate(COLORS, [(0.5, 0.5), beside])
    assert padding == expected
    assert plain != middle


@pytest.mark.parametrize(
    ("threshold", "badge", "note"),
    [(0.9, "accepted", "Accepted from 90.0% (dotted line)."), (0.0, "", ""), (None, "", "")],
)
def test_only_a_model_that_may_reject_says_that_it_accepts(
    threshold, badge, note, bundle, open_page, tmp_path
):
    option = {
        "threshold": threshold, "target_accuracy": 0.9, "chosen_on": "some",
        "measured_on": "others", "coverage": 0.5, "accuracy": 0.9,
    }  # fmt: skip
    write_color_bundle(tmp_path, bundle, reject_option=None if threshold is None else option)
    client, stop = start(Settings(tmp_path, log_requests=False))
    try:
        page = open_page(client)
        expect(page.locator("#photo")).to_be_visible()
        hand_over(page, "drop", "body", file_of(np.full((9, 9, 3), (250, 20, 10), np.uint8)))
        expect(page.locator("#label")).to_have_text("red")
        expect(page.locator("#badge")).to_have_text(badge)
        expect(page.locator("#badge")).to_be_visible(visible=bool(badge))
        expect(page.locator("#note")).to_have_text(note)
        expect(page.locator(".track.limited")).to_have_count(3 if note else 0)
        page.wait_for_timeout(800)  # until it is spoken
        assert ("accepted" in page.locator("#spoken").inner_text()) is bool(badge)
    finally:
        stop()


def test_the_size_of_an_image_names_height_and_width_unless_they_are_equal(
    bundle, open_page, tmp_path
):
    write_color_bundle(tmp_path, bundle, size=(32, 24))
    client, stop = start(Settings(tmp_path, log_requests=False))
    try:
        page = open_page(client)
        expect(page.locator("#photo")).to_be_visible()
        hand_over(page, "drop", "body", photograph())
        expect(page.locator("#size")).to_have_text("height 32, width 24")
    finally:
        stop()


def test_labels_are_compared_with_their_threshold(color_client, open_page):
    page = open_model(open_page, color_client, "multilabel")
    hand_over(page, "paste", "body", photograph())
    expect(page.locator("#label")).to_have_text("red")
    expect(page.locator(".best")).to_have_count(1)
    expect(page.locator("#note")).to_have_text("Predicted from 50.0% (dotted line).")
    expect(page.locator("#meaning")).to_contain_text("probability of red falls")
    hand_over(page, "drop", "body", file_of(np.zeros((9, 9, 3), np.uint8)))
    expect(page.locator("#label")).to_have_text("No label")


def test_each_label_may_have_a_threshold_of_its_own(color_client, open_page):
    page = open_model(open_page, color_client, "careful")
    hand_over(page, "drop", "body", file_of(np.full((9, 9, 3), (128, 128, 119), np.uint8)))
    expect(page.locator("#label")).to_have_text("green, blue")
    expect(page.locator(".best")).to_have_count(2)
    expect(page.locator("#note")).to_have_text("Predicted from the dotted line on.")
    lines = (
        "[...document.querySelectorAll('.track')].map(t => t.style.getPropertyValue('--threshold'))"
    )
    assert page.evaluate(lines) == ["90.0%", "50.0%", "10.0%"]


def test_values_are_shown_with_their_intervals(color_client, open_page):
    page = open_model(open_page, color_client, "ranges")
    colors = np.full((9, 9, 3), (250, 20, 10), np.uint8)
    hand_over(page, "drop", "body", file_of(colors))
    expect(page.locator("#bars td:last-child").first).to_have_text("250 (249 to 251)")
    assert page.locator("#bars td:last-child").nth(1).inner_text() == "20 lm (18 to 22)"
    assert page.locator("#bars td:last-child").nth(2).inner_text() == "10 (6 to 14)"
    colors[0, :7] += 1  # on average not far from 250.09
    hand_over(page, "drop", "body", file_of(colors))
    values = re.compile(r"250\.0\d{3,4} \(249\.\d\d? to 251\.\d\d?\)")
    expect(page.locator("#bars td:last-child").first).to_have_text(values)


def test_values_are_shown_as_numbers(color_client, open_page):
    page = open_model(open_page, color_client, "regression")
    hand_over(page, "drop", "body", file_of(np.full((9, 9, 3), (250, 20, 10), np.uint8)))
    expect(page.locator("#meaning")).to_contain_text("the more red changes")
    assert page.locator("#bars td:last-child").all_inner_texts() == ["250", "20", "10"]
    expect(page.locator(".track").first).to_be_hidden()


def test_a_phone_takes_a_photograph(color_client, open_page, tmp_path):
    screen = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    page = open_model(open_page, color_client, "multiclass", **screen)
    path = tmp_path / "photograph.png"
    path.write_bytes(photograph())
    with page.expect_file_chooser() as chooser:
        page.locator("#camera").tap()
    chooser.value.set_files(path)
    expect(page.locator("#label")).to_have_text("red")
    expect(page.locator("#meaning")).to_contain_text("falls")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("limits", [{"max_rows": 40}, {"max_body_mb": 0.5}])
def test_few_copies_are_sent_to_a_server_that_takes_few(limits, bundle, tmp_path, open_page):
    # All 144 copies are 1.8 MB.
    write_color_bundle(tmp_path, bundle, size=(64, 64))
    client, stop = start(Settings(tmp_path, log_requests=False, **limits))
    try:
        page = open_page(client)
        expect(page.locator("#bars tr")).to_have_count(3)
        hand_over(page, "drop", "body", photograph())
        expect(page.locator("#meaning")).to_contain_text("falls")
        if "max_body_mb" in limits:
            hand_over(page, "drop", "body", photograph() + bytes(600_000))
            expect(page.locator("#error")).to_contain_text("must have at most 500,000 bytes")
            expect(page.locator("#meaning")).to_be_empty()
    finally:
        stop()


def test_the_prediction_stays_when_its_copies_are_refused(color_client, open_page):
    def refuse(status, **headers):
        answer = {"status": status, "json": {"error": "Not now."}, "headers": headers}
        return lambda route: route.fulfill(**answer)

    page = open_model(open_page, color_client, "multiclass")
    page.route("**/infer", refuse(503, **{"retry-after": "0.1"}), times=1)
    hand_over(page, "drop", "body", photograph())
    expect(page.locator("#meaning")).to_contain_text("falls")  # it was sent again
    for status, headers in ((500, {}), (503, {"retry-after": "0.01"})):  # again, but not for ever
        page.route("**/infer", refuse(status, **headers))
        page.locator("#clear").click()
        expect(page.locator("#label")).to_be_empty()
        hand_over(page, "drop", "body", photograph())
        expect(page.locator("#meaning")).to_have_text("Not now.")
        expect(page.locator("#label")).to_have_text("red")
    sent = []

    def hold(route):
        sent.append(route)

    page.route("**/infer", hold)
    hand_over(page, "drop", "body", photograph())
    wait_until(lambda: page.wait_for_timeout(20) or sent)
    hand_over(page, "drop", "body", file_of(np.full((9, 9, 3), (0, 0, 255), np.uint8)))
    expect(page.locator("#label")).to_have_text("blue", timeout=10_000)  # a held one takes 30 s


def test_a_file_that_is_no_photograph_is_reported(color_client, open_page):
    page = open_model(open_page, color_client, "multiclass")
    hand_over(page, "drop", "body", b"no image")
    expect(page.locator("#error")).to_contain_text("cannot be read as an image, such as PNG")
    expect(page.locator("#meaning")).to_be_empty()
    expect(page.locator("#photo-invitation")).to_have_text("digit.png")


def test_the_page_asks_for_a_token_and_keeps_it(bundle, open_page):
    client, stop = start(Settings(bundle.parent, token=TOKEN, log_requests=False))
    try:
        page = open_page(client)
        page.locator("#token").fill("another")
        page.keyboard.press("Enter")
        expect(page.locator("#trouble")).to_contain_text("This token is wrong.")
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#bars tr")).to_have_count(10)
        draw_with_mouse(page)
        expect_prediction(page)
    finally:
        stop()


def test_a_label_is_shown_as_text_and_never_as_markup(bundle, tmp_path, open_page):
    folder = shutil.copytree(bundle.parent, tmp_path / "digits")
    manifest = json.loads((folder / "1" / "manifest.json").read_text())
    manifest["labels"] = [f"{LABEL}{number}" for number in range(10)]
    (folder / "1" / "manifest.json").write_text(json.dumps(manifest))
    model = onnx.load(folder / "1" / "model.onnx")
    labels = next(entry for entry in model.metadata_props if entry.key == "labels")
    labels.value = json.dumps(manifest["labels"])
    onnx.save(model, folder / "1" / "model.onnx")
    (folder / "1" / "SHA256SUMS").unlink()
    write_checksums(folder / "1")
    client, stop = start(Settings(tmp_path, log_requests=False))
    try:
        page = open_page(client)
        expect(page.locator("#bars tr")).to_have_count(10)
        draw_with_mouse(page)
        expect(page.locator("#label")).to_contain_text(LABEL)
        assert page.locator("main img:not([src^=data])").count() == 0
    finally:
        stop()


def test_without_a_model_to_try_the_page_explains_how_to_get_one(client, open_page):
    page = open_page(client)
    page.route("**/models", lambda route: route.fulfill(json={"models": []}))
    page.reload()
    expect(page.locator("#empty")).to_contain_text("hornbill train digits")


def test_a_sample_image_is_predicted_with_a_click(client, open_page):
    page = open_page(client)
    sample = page.get_by_role("button", name="Sample 3")
    sample.click()
    label, _ = expect_prediction(page)
    png = base64.b64decode(client.get("/v2/models/digits/samples")[1]["images"][2])
    assert json.loads(client("POST", "/images/digits", png)[2])["label"] == label
    expect(sample).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#latency")).to_have_text(
        re.compile(r"Model [\d.]+ ms, [\d.]+ ms to read the image, round trip [\d.]+ ms")
    )
    draw_with_mouse(page)
    expect(sample).to_have_attribute("aria-pressed", "false")


def choose_model(page, name):
    """Choose a model, and wait until the page has its input and its samples."""
    page.locator("#model").select_option(name)
    expect(page.locator("#cells" if name == "softmax" else "#drawing")).to_be_visible()


def open_rows(open_page, client, **options):
    page = open_page(client, **options)
    choose_model(page, "softmax")
    expect(page.locator("#label")).to_have_text("setosa")  # of the first sample
    return page


def test_a_row_is_filled_in_changed_and_predicted(client, open_page):
    page = open_rows(open_page, client)
    length = page.get_by_label("petal length (cm)").first
    expect(page.locator("#paper")).to_be_hidden()
    expect(page.locator("#latency")).to_have_text(re.compile(r"Model [\d.]+ ms, round trip"))
    page.get_by_role("button", name="Sample 8").click()
    expect(page.locator("#label")).to_have_text("virginica")
    expect(length).to_have_value("5.2")
    length.fill("9")
    hint = page.locator(".field").nth(2).locator(".hint")
    expect(hint).to_have_text("outside 1 to 6.9")
    page.locator("input[type=range]").nth(2).fill("1.4")
    expect(length).to_have_value("1.4")
    expect(hint).to_have_text("1 to 6.9")
    length.fill("much")
    expect(page.locator("#error")).to_contain_text("Each cell must be a number")
    page.get_by_role("button", name="Sample 1").click()
    expect(page.locator("#label")).to_have_text("setosa")
    expect(page.locator("#error")).to_be_hidden()


@pytest.fixture
def comma_client(raw_bundle, tmp_path):
    """A server of a model of a table with decimal commas, and a function that changes the model.

    It has no samples from data, so that the form begins with the middle of each range.
    """
    version = shutil.copytree(raw_bundle[0], tmp_path / "raw" / "1")
    path = version / "manifest.json"
    manifest = json.loads(path.read_text())
    (size, _, weight), (span, share) = (
        manifest["row_format"]["columns"], manifest["training_cells"]["ranges"]
    )  # fmt: skip
    size |= {"decimal": ",", "thousands": ".", "unit": "kg"}
    weight |= {"decimal": "."}
    share |= {"low": 0, "high": 1}
    manifest["proof"]["source"] = f"{DRAWN}, without 3 whose outputs depend on rounding"

    def write(high):
        span.update(low=0.5, high=high)
        manifest["created"] = f"when it was {high}"
        path.write_text(json.dumps(manifest))
        write_checksums(version)

    write(2000)
    client, stop = start(Settings(tmp_path, log_requests=False, poll_s=0.05))
    yield client, write
    stop()


def test_numbers_are_written_and_read_as_in_the_table_and_kept_for_a_new_version(
    comma_client, open_page
):
    client, write = comma_client
    page = open_page(client)
    size, weight = page.get_by_label("size in kg"), page.get_by_label("weight").first
    code, hint = page.locator("#code"), page.locator(".field .hint").first
    expect(size).to_have_value("1000,25")
    expect(size).to_have_accessible_description("0,5 to 2000")
    expect(page.locator("#latency")).to_contain_text("round trip")
    for cell, sent, shown in (
        ("1.234,5 kg", '"1.234,5 kg"', "0,5 to 2000"),
        ("2.500", '"2.500"', "outside 0,5 to 2000"),
        ("2001", "2001", "outside 0,5 to 2000"),
        ("0x10", '"0x10"', "0,5 to 2000"),  # a number of JavaScript only
    ):
        size.fill(cell)
        expect(hint).to_have_text(shown)
        assert f'"size":{sent},' in code.text_content()
    expect(page.locator("#error")).to_contain_text("kg or none. Received: size='0x10'")
    slider = page.locator("[type=range]").first
    size.fill("")
    expect(slider).to_have_class("unset")
    expect(slider).to_have_attribute("aria-valuetext", "missing")
    size.fill("7,5")
    expect(slider).to_have_class("")
    # Phones' keyboards for decimals have no comma.
    assert [size.get_attribute("inputmode"), weight.get_attribute("inputmode")] == [None, "decimal"]
    expect(page.locator("[type=range]").nth(1)).to_have_attribute("step", "0.01")
    write(3000)

    def created():
        (row,) = client.get("/models")[1]["models"]
        return row.get("created")

    wait_until(lambda: created() == "when it was 3000")
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(hint).to_have_text("0,5 to 3000")
    expect(size).to_have_value("7,5")
    expect(page.locator("#latency")).to_contain_text("round trip")


def run_code(page, folder, program):
    code = page.locator("#code").text_content()
    command = ["bash", "-c", code] if program == "curl" else [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("program", ["curl", "python"])
def test_the_request_can_be_copied_and_run(program, client, open_page, tmp_path):
    if program == "curl" and not shutil.which("curl"):
        pytest.skip("no curl on the PATH")
    page = open_rows(open_page, client)
    page.locator(f"#{program}").click()
    assert "setosa" in run_code(page, tmp_path, program)
    choose_model(page, "digits")
    page.get_by_role("button", name="Sample 2").click()
    label, _ = expect_prediction(page)
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    assert label in run_code(page, tmp_path, program)


# The boxes of everything that is shown, and whether two of them that can be used overlap.
BOXES = """() => {
  const boxes = [...document.querySelectorAll("main :is(section, p, table, button, input, select)")]
    .filter(element => element.checkVisibility() && !element.closest(".unseen"))
    .map(element => [element, element.getBoundingClientRect()])
  const used = boxes.filter(([element]) => element.matches("button, input, select"))
  const overlap = used.some(([one, a]) => used.some(([other, b]) => one !== other &&
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1))
  const places = boxes.map(([, { top, left, height }]) =>
    [top + scrollY, left, height].map(Math.round))
  return { places, overlap, width: document.documentElement.scrollWidth }
}"""


@pytest.mark.parametrize("name", ["digits", "softmax"])
def test_nothing_moves_and_nothing_overlaps(name, client, open_page):
    page = open_page(client)
    for width in (360, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        choose_model(page, name)
        shown = []
        for number in (1, 3, 8):
            sample = page.get_by_role("button", name=f"Sample {number}")
            sample.click()
            expect(sample).to_have_attribute("aria-pressed", "true")
            expect(page.locator("#latency")).to_contain_text("round trip")
            shown.append(page.evaluate(BOXES))
        assert shown[0]["places"] == shown[1]["places"] == shown[2]["places"]
        assert not shown[0]["overlap"]
        assert shown[0]["width"] <= width
