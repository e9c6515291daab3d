"""The lines of a batch job have the decisions and the intervals that `hornbill predict` prints."""

import json

from color_bundles import write_color_bundle
from test_serving_decisions import CLASSES, INTERVALS, changed, images, raw_rows

from app.batch.lines import PredictionLines
from serving import Predictor


def test_a_batch_job_writes_what_predict_prints(bundle, raw_bundle, tmp_path):
    values = Predictor.load(write_color_bundle(tmp_path, bundle, "regression", intervals=INTERVALS))
    outputs = values.predict(images((10, 20, 30), (1, 2, 3))).values
    text = PredictionLines(values.manifest).render(['"row": 0', '"row": 1'], outputs)
    assert json.loads(text.splitlines()[1]) == {
        "row": 1,
        "values": {"red": 1, "green": 2, "blue": 3},
        "lower": {"red": 0, "green": 0, "blue": -1},
        "upper": {"red": 2, "green": 4, "blue": 7},
    }
    decided = Predictor.load(changed(raw_bundle[0], tmp_path, thresholds=CLASSES))
    prediction = decided.predict(raw_rows())
    ids = [f'"row": {number}' for number in range(50)]
    text = PredictionLines(decided.manifest).render(ids, prediction.probabilities)
    assert [json.loads(line)["label"] for line in text.splitlines()] == prediction.labels
