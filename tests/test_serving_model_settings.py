"""`serving.toml`: pinned versions, labels and limits of single models, and faults in the file."""

import re
from functools import partial
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InputError
from serving.server.model_folder import ModelFolder
from serving.server.model_settings import ModelSettings, read_model_settings
from serving.server.rereading import Reread
from serving.server.tokens import read_tokens

FOLDER = {"digits": [1, 2, 3], "iris": [1]}


def make_folder(folder):
    for name, versions in FOLDER.items():
        for number in versions:
            (folder / name / str(number)).mkdir(parents=True, exist_ok=True)
    return ModelFolder(folder)


def read(folder, text):
    (folder / "serving.toml").write_text(text, "utf-8")
    return read_model_settings(make_folder(folder))


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path):
    assert read_model_settings(make_folder(tmp_path)) == {}
    found = read(
        tmp_path,
        """
        [models.digits]
        versions = [2, 3]
        labels = { stable = 2, canary-1 = 3 }
        max_delay_ms = 2
        [models.iris]
        threads = 2
        """,
    )
    assert found == {
        "digits": ModelSettings(
            versions=(2, 3), labels={"stable": 2, "canary-1": 3}, max_delay_ms=2.0
        ),
        "iris": ModelSettings(threads=2),
    }
    assert found["digits"].of_loading == ModelSettings(max_delay_ms=2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models.digits", "serving.toml cannot be read as TOML"),
        ("title = 1", "must have a table [models.NAME] for each model. Received: title."),
        ("models = 1", "Received: models, of another kind."),
        ("[models]\ndigits = 1", "Received in [models.digits]: expected `object`, got `int`."),
        ("[models.digits]\nthread = 2", "contains unknown field `thread`."),
        ("[models.digits]\nthreads = 0", "expected `int` >= 1 - at `$.threads`."),
        ("[models.digits]\nthreads = true", "got `bool` - at `$.threads`."),
        ("[models.digits]\nmax_delay_ms = nan", "expected `float` > 0.0"),
        ("[models.digits]\nmax_delay_ms = inf", "expected `float` <= 1000000.0"),
        ("[models.digits]\nversions = []", "expected `array` of length >= 1"),
        ("[models.digits]\nversions = [4]", "in the folder: 1, 2, 3. Received: versions = 4."),
        ("[models.digits]\nlabels = { old = 9 }", "Received: old = 9."),
        ("[models.digits]\nversions = [1]\nlabels = { new = 3 }", "versions = [1]. Received: new"),
        ("[models.digits]\nlabels = { 7 = 1 }", "not only digits. Received: '7'."),
        ("[models.digits]\nlabels = { 'a/b' = 1 }", "Received: 'a/b'."),
        ("[models.digit]\nthreads = 1", "models that are in the folder. Received: [models.digit]"),
        ("\ufeff[models.iris]", "serving.toml cannot be read as TOML"),
        ("[models.iris]\n\x00", "serving.toml cannot be read as TOML"),
    ],
)
def test_a_fault_is_told_in_one_line_that_names_the_file(text, message, tmp_path):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "serving.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_model_has_the_file_in_its_own_folder(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "digits" / "serving.toml").write_text("[models.digits]\nversions = [2]\n")
    found = read_model_settings(ModelFolder(tmp_path / "digits"))
    assert found == {"digits": ModelSettings(versions=(2,))}
    (tmp_path / "digits" / "serving.toml").write_text("[models.iris]\nthreads = 2\n")
    with pytest.raises(InputError, match="Received: \\[models.iris\\]"):
        read_model_settings(ModelFolder(tmp_path / "digits"))


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "serving.toml").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_model_settings(make_folder(tmp_path))


VALUE = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text("ab1 \n", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1", min_size=1), inner),
    max_leaves=6,
)
KEYS = st.sampled_from([*ModelSettings.__struct_fields__, "other"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wild")


@given(st.dictionaries(KEYS, VALUE, max_size=3))
def test_any_other_value_is_an_error_of_one_line(folder, table):
    message = ""
    try:
        read(folder, tomli_w.dumps({"models": {"digits": table}}))
    except InputError as error:
        message = str(error)
    assert "\n" not in message


def test_the_documentation_shows_every_key(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    (settings,) = read(tmp_path, example).values()
    assert all(getattr(settings, name) for name in ModelSettings.__struct_fields__)


def test_a_file_that_is_being_written_is_not_followed(tmp_path):
    path = tmp_path / "settings"
    path.write_text("old")
    reread = Reread(path.read_text, "")
    path.write_text("")  # as programs do that write it in two steps
    reread.refresh()
    assert reread.value == "old"
    path.write_text("new")
    reread.refresh()
    assert reread.value == "old"
    reread.refresh()
    assert reread.value == "new"


def test_a_process_that_starts_while_the_file_is_invalid_gets_what_the_others_have(
    tmp_path, caplog
):
    path, kept = tmp_path / "tokens", tmp_path / "kept"
    nobody = {}

    def start():
        return Reread(partial(read_tokens, None, path), nobody, kept)

    path.write_text("ann first\n")
    value = start().value
    path.write_text("three words here\n")
    assert start().value == value != nobody
    assert "Received: 3 words in line 1. The settings from before stay." in caplog.text
    path.unlink()
    late = start()
    assert late.value == value
    path.write_text("ben second\n")
    late.refresh()
    late.refresh()
    path.unlink()
    assert start().value == late.value != value
    assert {file.name for file in tmp_path.iterdir()} == {"kept"}
