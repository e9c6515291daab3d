"""Texts in the graph: every mode of TextVectorization answers as Keras does, token for token."""

import functools
import string

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from export import ExportError
from export.inference import trace_inference
from export.onnx.convert import convert_to_onnx
from export.onnx.text_patterns import Pattern, read_pattern
from serving.session import open_session

WORDS = ["the", "cat", "Don't", "stop", "me", "now", "école", "ÄÖÜ", "a1", "[UNK]", "<br />", "x.y"]
CORPUS = ["The cat sat, the cat ate.", "don't stop me now", "école écolé Dont a1 b_2", "x y z xy"]
ALPHABET = st.sampled_from(
    string.punctuation + string.whitespace + "aAzZ09\x00\x1c\x85\xa0éİßǅ\u2003日"
) | st.characters(exclude_categories=["Cs"])
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(ALPHABET, max_size=8), max_size=9).flatmap(
    lambda words: st.sampled_from([" ", "", "\t ", "-", "\n"]).map(lambda sep: sep.join(words))
)


@keras.saving.register_keras_serializable()
def without_html(text):
    """Standardize as the guide on IMDB does."""
    text = tf.strings.regex_replace(tf.strings.lower(text), "<br />", " ")
    return tf.strings.regex_replace(text, r"[.,;:!?]+", " . ")


@keras.saving.register_keras_serializable()
def at_dashes(text):
    """Split at each dash, also into empty tokens."""
    return tf.strings.split(text, "-")


# Only one strips all punctuation, which takes 32 replacements.
MODES = {
    "stripped": {"ngrams": 2, "output_mode": "tf_idf"},
    "int": {"standardize": "lower"},
    "cut_bigrams": {"standardize": None, "ngrams": 2, "output_sequence_length": 5},
    "own_standardize": {"standardize": without_html, "split": at_dashes, "ngrams": (1, 3)},
    "count": {"standardize": None, "output_mode": "count"},
    "multi_hot": {"standardize": None, "output_mode": "multi_hot", "max_tokens": 30,
                  "pad_to_max_tokens": True},
    "unsplit": {"split": None, "standardize": None},
}  # fmt: skip


@functools.cache
def every_mode():
    """Return a function of texts that gives Keras' answers and those of the graph, by mode."""
    start = keras.Input((1,), dtype="string", name="text")
    answers = {}
    for mode, settings_ in MODES.items():
        layer = layers.TextVectorization(**settings_, name=f"{mode}_layer")
        layer.adapt(CORPUS)
        answers[mode] = layer(start)
    inference = trace_inference(keras.Model(start, answers))
    graph = convert_to_onnx(inference, {})
    assert next(each.version for each in graph.opset_import if not each.domain) == 20
    session = open_session(graph.SerializeToString())

    def run(texts):
        rows = np.array(texts, object)[:, None]
        names = [output.name for output in session.get_outputs()]
        received = dict(zip(names, session.run(names, {"text": rows}), strict=True))
        return inference.function(tf.constant(rows)), received

    return run


def require_same(texts):
    expected, received = every_mode()(texts)
    for mode in MODES:
        wanted = expected[mode].numpy()
        assert wanted.dtype == received[mode].dtype
        np.testing.assert_allclose(received[mode], wanted, rtol=1e-6, err_msg=f"{mode}: {texts}")


@pytest.mark.parametrize(
    "texts",
    [
        [""],
        ["", " \t\n\v\f\r "],
        ["The cat, the DOG; don't...", "x\ty\nz\x0bw\x0cq\rr", "!!!", "-a--b-", "İSTANBUL écolE"],
        ["a<br /><br />b.,!c", ".x", "..", "x;"],
        ["one two three four five six seven"],
    ],
)
def test_every_mode_of_text_vectorization_answers_as_keras(texts):
    require_same(texts)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_any_text_gives_the_tokens_of_keras(texts):
    require_same(texts)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(st.lists(TEXTS, min_size=25, max_size=25))
def test_ten_thousand_texts_give_the_tokens_of_keras(texts):
    require_same(texts)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("<br />", Pattern(("<br />",))),
        (r"a\.b\n", Pattern(("a.b\n",))),
        ("[a-c_]", Pattern(("a", "b", "c", "_"))),
        (r"[\]\\\-^]+", Pattern(("]", "\\", "-", "^"), is_repeated=True)),
        ("[[:digit:]x]", Pattern((*"0123456789", "x"))),
        (r"\s+", Pattern(("\t", "\n", "\f", "\r", " "), is_repeated=True)),
        ("!+", Pattern(("!",), is_repeated=True)),
        (r"\+", Pattern(("+",))),
        ("é", Pattern(("é",))),
        *[(expression, None) for expression in (
            "[^a]", "a|b", "a*", "ab+", ".", "(a)", "^a", "a$", "", "[]", r"\w*", r"\b", r"\W",
            "a{2}",
            "[a]b]", "(?i)a", "[", "\\", "[[:no:]]", "[z-a]", "a?",
        )],
    ],
)  # fmt: skip
def test_a_pattern_is_a_literal_or_a_set_of_characters(expression, wanted):
    assert read_pattern(expression) == wanted


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            layers.TextVectorization(vocabulary=["a"], split="character", name="tokens"),
            "UnicodeDecode of layer 'tokens'.*split the texts outside",
        ),
        (
            layers.Hashing(8, name="bins"),
            "StringToHashBucketFast of layer 'bins'.*StringLookup",
        ),
        (
            layers.StringLookup(vocabulary=["a"], num_oov_indices=2, name="words"),
            "StringToHashBucketFast of layer 'words'.*StringLookup",
        ),
        (
            layers.TextVectorization(
                vocabulary=["a"],
                standardize=lambda text: tf.strings.regex_replace(text, "[^a-z]", ""),
                name="tokens",
            ),
            r"StaticRegexReplace of layer 'tokens'.*a literal or a set of characters",
        ),
    ],
)
def test_what_onnx_cannot_do_with_texts_is_refused_with_what_would_do(layer, message):
    start = keras.Input((1,), dtype="string", name="text")
    inference = trace_inference(keras.Model(start, layer(start)))
    with pytest.raises(ExportError, match=message):
        convert_to_onnx(inference, {})
