"""Bundles that somebody wrote to do harm: each a change of a good one, and the line that it gets.

Those whose graphs harm the process that runs them are in `hostile_graphs`, packed ones in
`test_serving_packed`, images of registries in `test_app_sharing`.
"""

import hashlib
import json
import os
import shutil
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCRIPT = "<img src=x onerror=alert(1)>"
# The line of each, a regular expression, by what is wrong.
LINES = {}
MAKERS = {}


def gets(line):
    """Register a function that spoils the folder of a version; its name says how."""

    def register(spoil):
        name = spoil.__name__.replace("_", " ")
        MAKERS[name], LINES[name] = spoil, line
        return spoil

    return register


def change_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, ensure_ascii=False))


def change_graph(version, change):
    """Change the graph as a message: what is written may be no valid graph."""
    model = onnx.load(version / "model.onnx", load_external_data=False)
    change(model)
    (version / "model.onnx").write_bytes(model.SerializeToString())


def make_external(tensor, **entries):
    for name in ("raw_data", "float_data"):
        tensor.ClearField(name)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


def weights_of(model):
    return next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)


# Weights by every way.


@gets("must be in model.onnx.data beside it. Received: '/etc/passwd'")
def weights_at_an_absolute_path(version):
    entries = {"location": "/etc/passwd", "length": 48}
    change_graph(version, lambda m: make_external(weights_of(m), **entries))


@gets("must be in model.onnx.data beside it. Received: '../../../../etc/passwd'")
def weights_outside_of_the_folder(version):
    entries = {"location": "../../../../etc/passwd", "length": 48}
    change_graph(version, lambda m: make_external(weights_of(m), **entries))


@gets("must be in model.onnx.data beside it. Received: './model.onnx.data'")
def weights_at_another_spelling_of_their_place(version):
    entries = {"location": "./model.onnx.data", "length": 48}
    change_graph(version, lambda m: make_external(weights_of(m), **entries))


@gets("must state its length, and its offset as a number")
def weights_without_a_length(version):
    change_graph(version, lambda m: make_external(weights_of(m), location="/etc/passwd"))


@gets("must state its 'location' once. Received: twice")
def weights_at_two_places(version):
    def change(model):
        make_external(weights_of(model), location="model.onnx.data", length=48)
        weights_of(model).external_data.add(key="location", value="/etc/passwd")

    change_graph(version, change)


@gets("must be in model.onnx.data beside it. Received: '/etc/passwd'")
def weights_in_a_constant_of_a_branch(version):
    def change(model):
        value = helper.make_tensor("k", TensorProto.FLOAT, [1], [0.0])
        make_external(value, location="/etc/passwd", length=4)
        node = helper.make_node("Constant", [], ["q"], value=value)
        info = helper.make_tensor_value_info("q", TensorProto.FLOAT, [1])
        branch = helper.make_graph([node], "branch", [], [info])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        branches = {"then_branch": branch, "else_branch": branch}
        model.graph.node.append(helper.make_node("If", ["yes"], ["unused"], **branches))

    change_graph(version, change)


@gets("must be in model.onnx.data beside it. Received: '/etc/passwd'")
def weights_of_a_sparse_tensor(version):
    def change(model):
        sparse = model.graph.sparse_initializer.add(dims=[4])
        sparse.values.data_type, sparse.values.name = TensorProto.FLOAT, "sparse"
        sparse.values.dims.append(1)
        make_external(sparse.values, location="/etc/passwd", length=4)

    change_graph(version, change)


@gets("must be in model.onnx.data beside it. Received: '/etc/passwd'")
def weights_of_a_function(version):
    def change(model):
        value = helper.make_tensor("k", TensorProto.FLOAT, [1], [0.0])
        make_external(value, location="/etc/passwd", length=4)
        node = helper.make_node("Constant", [], ["q"], value=value)
        opsets = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("own", "F", [], ["q"], [node], opsets))

    change_graph(version, change)


@gets("model.onnx.data must be a regular file. Received: another kind")
def weights_behind_a_link(version):
    entries = {"location": "model.onnx.data", "length": 48}
    change_graph(version, lambda m: make_external(weights_of(m), **entries))
    (version / "model.onnx.data").symlink_to("/etc/passwd")


@gets("must lie within the 8 bytes of .*model.onnx.data. Received: 48 bytes from byte 9000")
def weights_beyond_their_file(version):
    entries = {"location": "model.onnx.data", "length": 48, "offset": 9000}
    change_graph(version, lambda m: make_external(weights_of(m), **entries))
    (version / "model.onnx.data").write_bytes(bytes(8))


# Graphs that are none.


@gets("cannot be loaded by onnxruntime")
def an_operator_of_its_own(version):
    def change(model):
        model.graph.node.append(helper.make_node("PyOp", ["inputs"], ["x"], domain="evil"))
        model.opset_import.add(domain="evil", version=1)

    change_graph(version, change)


@gets("An ONNX file must be nested at most 50 deep. Received: more")
def a_graph_of_a_thousand_levels(version):
    inner = b""
    for _ in range(1000):  # an attribute, of a node, of a graph
        for key in (b"\x32", b"\x2a", b"\x0a"):
            inner = key + varint(len(inner)) + inner
    (version / "model.onnx").write_bytes(b"\x3a" + varint(len(inner)) + inner)


def varint(number):
    digits = b""
    while number > 127:
        digits += bytes([number & 127 | 128])
        number >>= 7
    return digits + bytes([number])


@gets("a protobuf message. Received: a number over 64 bits")
def a_graph_of_noise(version):
    (version / "model.onnx").write_bytes(b"\x08\x09" + b"\xff" * 1000)


@gets("cannot be loaded by onnxruntime")
def an_empty_graph(version):
    (version / "model.onnx").write_bytes(b"")


@gets("a complete protobuf message. Received: a truncated one")
def a_graph_that_says_it_is_longer(version):
    (version / "model.onnx").write_bytes(b"\x3a" + varint(2**40))


@gets("cannot be loaded by onnxruntime")
def a_tensor_of_a_quintillion_numbers(version):
    change_graph(version, lambda m: weights_of(m).dims.extend([2**60]))


@gets("cannot be loaded by onnxruntime")
def an_opset_of_the_far_future(version):
    change_graph(version, lambda m: setattr(m.opset_import[0], "version", 2**31))


# Files.


@gets("must not contain symbolic links. Received: .*/passwd")
def a_link_out_of_the_folder(version):
    (version / "passwd").symlink_to("/etc/passwd")


@gets("must not contain symbolic links. Received: .*model.onnx")
def a_linked_graph(version):
    (version / "model.onnx").rename(version.parent / "away.onnx")
    (version / "model.onnx").symlink_to(version.parent / "away.onnx")


@gets("must not contain symbolic links. Received: .*/loop")
def a_folder_in_itself(version):
    (version / "loop").symlink_to(version)


@gets("Every file must be listed in SHA256SUMS. Received: pipe")
def a_pipe(version):
    os.mkfifo(version / "pipe")


@gets("README.md cannot be read: not a regular file")
def a_pipe_for_a_file(version):
    (version / "README.md").unlink()
    os.mkfifo(version / "README.md")


@gets("SHA256SUMS cannot be read: not a regular file")
def a_pipe_of_checksums(version):
    (version / "SHA256SUMS").unlink()
    os.mkfifo(version / "SHA256SUMS")


@gets("must list files inside the bundle. Received: '../../../../etc/passwd'")
def a_checksum_of_a_file_outside(version):
    add_checksum(version, "../../../../etc/passwd")


@gets("must list files inside the bundle. Received: '/etc/passwd'")
def a_checksum_of_an_absolute_path(version):
    add_checksum(version, "/etc/passwd")


@gets(r"2J.* does not exist")
def a_name_that_clears_the_screen(version):
    add_checksum(version, "\x1b[2J")


@gets(r"x.* cannot be read: .*null")
def a_name_with_a_null(version):
    add_checksum(version, "x\0y")


def add_checksum(version, name):
    with (version / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")


@gets("SHA256SUMS must have at most")
def an_endless_list_of_checksums(version):
    with (version / "SHA256SUMS").open("r+b") as file:
        file.truncate(2**40)  # a hole of the disk, which takes no room


@gets("Every file must be listed in SHA256SUMS. Received: hole.bin")
def a_file_of_a_terabyte(version):
    with (version / "hole.bin").open("wb") as file:
        file.truncate(2**40)


# Numbers and names in the manifest.


@gets("version must be at least 1, and an int64. Received: version=-1")
def a_negative_version(version):
    change_manifest(version, version=-1)


@gets("version must be at least 1, and an int64. Received: version=10{30}")
def a_version_beyond_all_integers(version):
    change_manifest(version, version=10**30)


@gets(r"format_version 5. Received: format_version=1e\+308")
def a_format_of_the_far_future(version):
    change_manifest(version, format_version=1e308)


@gets("parameters must be at least 0. Received: parameters=-5")
def fewer_weights_than_none(version):
    change_manifest(version, parameters=-5)


@gets("opset must be from 1 to 1,000. Received: opset=1000000000")
def an_absurd_opset(version):
    change_manifest(version, opset=10**9)


@gets("Exceeds the limit|too many digits|cannot be read as JSON")
def a_number_of_a_million_digits(version):
    spoil_text(version, '"parameters": ', f'"parameters": {"9" * 1_000_000}, "was": ')


@gets("1e999, which is too large for a float")
def an_infinite_number(version):
    spoil_text(version, '"parameters": ', '"was": 1e999, "parameters": ')


@gets("NaN, which is not a JSON number")
def a_number_that_is_none(version):
    spoil_text(version, '"parameters": ', '"was": NaN, "parameters": ')


@gets("manifest.json cannot be read as JSON: maximum recursion depth")
def a_manifest_of_a_hundred_thousand_levels(version):
    spoil_text(version, '"parameters": ', f'"was": {"[" * 100_000}, "parameters": ')


@gets("manifest.json must have at most")
def a_manifest_of_a_terabyte(version):
    with (version / "manifest.json").open("r+b") as file:
        file.truncate(2**40)


def spoil_text(version, before, after):
    path = version / "manifest.json"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@gets("baseline must have fractions from 0 to 1. Received: ")
def absurd_frequencies(version):
    baseline = json.loads((version / "manifest.json").read_text())["baseline"]
    baseline["fractions"][0] = -1e300
    change_manifest(version, baseline=baseline)


@gets("name must be at most 100 letters, digits, '_', '-' and '.'.*Received: name='<img src=x on")
def a_name_that_is_markup(version):
    change_manifest(version, name=SCRIPT)


@gets("name must be at most 100 letters.*Received: name='../../evil'")
def a_name_that_leads_out(version):
    change_manifest(version, name="../../evil")


@gets(r"must have the manifest's labels, \[\"<img src=x onerror=alert")
def labels_that_are_markup(version):
    change_manifest(version, labels=[SCRIPT] * 3)


@gets("must have the manifest's labels")
def a_label_that_clears_the_screen(version):
    change_manifest(version, labels=["\x1b[2J\x1b]0;owned\x07", "b\nFAKE  files  ok", "c"])


@gets("must be valid UTF-8 text. Received: a lone surrogate")
def a_label_that_is_half_a_character(version):
    spoil_text(version, '"parameters": ', '"was": "\\ud800", "parameters": ')


@gets(r"float32 \[batch, 3\] for 100000 labels|one fraction for each label")
def a_hundred_thousand_labels(version):
    change_manifest(version, labels=["x" * 20] * 100_000)


@gets("The inputs of model.onnx must be")
def an_input_of_absurd_size(version):
    inputs = json.loads((version / "manifest.json").read_text())["inputs"]
    inputs[0]["shape"][1] = 10**30
    change_manifest(version, inputs=inputs)


# Golden samples.


@gets(r"must have \d+ bytes of raw_data. Received: 4")
def golden_samples_of_absurd_shape(version):
    tensor = onnx.TensorProto(data_type=1, dims=[2**62, 2**62], name="inputs", raw_data=bytes(4))
    (version / "test_data_set_0" / "input_0.pb").write_bytes(tensor.SerializeToString())


@gets("at most 8 axes. Received: shape=")
def golden_samples_of_a_thousand_axes(version):
    tensor = onnx.TensorProto(data_type=1, dims=[1] * 1000, name="inputs", raw_data=bytes(4))
    (version / "test_data_set_0" / "input_0.pb").write_bytes(tensor.SerializeToString())


@gets("must hold inputs float32|must be within|probabilities")
def golden_samples_that_are_not_numbers(version):
    path = version / "test_data_set_0" / "output_0.pb"
    tensor = onnx.load_tensor(path)
    tensor.raw_data = struct.pack("<f", float("nan")) * (len(tensor.raw_data) // 4)
    path.write_bytes(tensor.SerializeToString())


def write_hostile_bundle(name, good, folder):
    """Copy a good version into `folder/NAME/1` and spoil it; return its folder.

    Checksums are those of the spoiled files: whoever can change a file can change them too.
    """
    version = shutil.copytree(good, folder / good.parent.name / "1")
    for beside in ("config.pbtxt", "labels.txt"):
        shutil.copy(good.parent / beside, version.parent)
    sums = version / "SHA256SUMS"
    before = sums.read_text()
    MAKERS[name](version)
    if sums.is_file() and sums.stat().st_size == len(before):
        names = [line[66:] for line in before.splitlines()]
        lines = [f"{digest_of(version / each) or '0' * 64}  {each}\n" for each in names]
        sums.write_text("".join(lines))
    return version


def digest_of(path):
    """Return the SHA-256 of a file; None of what would take for ever."""
    if not path.is_file() or path.stat().st_size > 10**9:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()
