"""Time of Predictor.predict, compared with ONNX Runtime's own call, Keras and the SavedModel.

    python -m benchmarks.overhead

Three untrained nets are exported, since weights do not change the time: the mlp, the cnn, and a net
with the layers of the mlp but without its preprocessing. The third shows what the preprocessing
costs, which is about 70 small operations in the graph. All calls of one net run in turn in one
process. Goals: at most 5 microseconds more than session.run for one row and 2% more for 1024 rows;
1000 times faster than Keras' predict for the mlp and 300 times for the cnn; 10 times faster than
the SavedModel.
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import write_results
from export import ExportOptions, ModelFacts, export_bundle
from models import DigitNetConfig, FeatureExtractorConfig
from models.digits import digit_net
from models.features import feature_extractor
from serving import Predictor
from serving.inputs import image_shape
from serving.timing import median_ms

LARGE = 1024
LABELS = tuple("0123456789")


def main() -> None:
    """Measure all nets and store the results."""
    keras.utils.set_random_seed(0)
    bare = FeatureExtractorConfig(
        image_shape=(28, 28, 1), backbone="mlp", hidden=(256,), num_outputs=10
    )
    nets = {variant: digit_net(DigitNetConfig(variant=variant)) for variant in ("mlp", "cnn")}
    for name, net in {**nets, "mlp of gray levels": feature_extractor(bare)}.items():
        with tempfile.TemporaryDirectory() as folder:
            bundle = export_bundle(
                net, folder, "net", ModelFacts(task="multiclass", labels=LABELS),
                options=ExportOptions(int8="never"),
            )  # fmt: skip
            row = {"what": name, **_added(bundle), **_ratios(net, bundle)}
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        write_results("overhead", [row])


def _images(predictor: Predictor, count: int) -> np.ndarray:
    shape = image_shape(predictor.manifest)
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


def _bare(predictor: Predictor, images: np.ndarray) -> Callable[[], Any]:
    names = [output.name for output in predictor.manifest.outputs]
    return lambda: predictor.session.run(names, {"image": images})


def _added(bundle: Path) -> dict[str, float]:
    """Return the time that the Predictor adds to session.run."""
    predictor, one_thread = Predictor.load(bundle), Predictor.load(bundle, threads=1)
    one, many = _images(predictor, 1), _images(predictor, LARGE)
    calls = {"bare": _bare(predictor, one), "ours": lambda: predictor.predict(one)}
    pairs = [median_ms(calls, 4000, warm_up=200) for _ in range(5)]
    large = {
        "bare": _bare(predictor, many),
        "one thread": lambda: one_thread.predict(many),
        "all threads": lambda: predictor.predict(many),
    }
    times = median_ms(large, 60)
    return {
        "session_run_us": round(1000 * pairs[-1]["bare"], 1),
        "added_us": round(statistics.median(1000 * (p["ours"] - p["bare"]) for p in pairs), 2),
        "ratio_1024": round(times["one thread"] / times["bare"], 3),
        "ratio_1024_all_threads": round(times["all threads"] / times["bare"], 3),
    }


def _ratios(net: keras.Model, bundle: Path) -> dict[str, float]:
    """Return the times of Keras and the SavedModel for one row, relative to the Predictor."""
    predictor = Predictor.load(bundle)
    call = tf.saved_model.load(str(bundle)).signatures["serving_default"]
    one = _images(predictor, 1)
    calls = {
        "ours": lambda: predictor.predict(one),
        "keras": lambda: net.predict(one, verbose=0),
        "saved_model": lambda: call(image=tf.constant(one)),
    }
    times = median_ms(calls, 300, warm_up=20)
    return {
        "keras_to_predictor": round(times["keras"] / times["ours"]),
        "saved_model_to_predictor": round(times["saved_model"] / times["ours"], 1),
    }


if __name__ == "__main__":
    main()
