"""Times one runtime on one image, on one thread; prints the median in ms and the probabilities.

python image_runtimes.py predictor|onnxruntime|openvino|openvino-bf16|litert MODEL IMAGE.npy SECONDS
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CLASSES = 10


def predictor(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an image to its probabilities: the bundle at `path`, in float32."""
    from serving import Predictor

    loaded = Predictor.load(path, int8="never")
    return lambda image: loaded.predict(image).probabilities


def onnxruntime(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an image to its probabilities: the ONNX file at `path`."""
    from serving.session import open_session

    session = open_session(Path(path).read_bytes())
    name = session.get_inputs()[0].name
    return lambda image: session.run(["probabilities"], {name: image})[0]


def openvino(path: str, precision: str = "f32") -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an image to its probabilities: the SavedModel at `path`, converted.

    Its tensors share memory with numpy, which is the fastest interface.
    """
    import openvino as ov

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = ov.Core().compile_model(ov.convert_model(path), "CPU", options)
    request = compiled.create_infer_request()
    name = next(o for o in compiled.outputs if "probabilities" in o.get_names())

    def predict(image: np.ndarray) -> np.ndarray:
        request.set_input_tensor(ov.Tensor(image, shared_memory=True))
        request.infer()
        probabilities: np.ndarray = request.get_tensor(name).data
        return probabilities

    return predict


def litert(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an image to its probabilities: the LiteRT file at `path`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    # The names of outputs are lost; the features have another size than the ten classes.
    outputs = interpreter.get_output_details()
    wanted = next(output["index"] for output in outputs if output["shape"][-1] == CLASSES)

    def predict(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given, image)
        interpreter.invoke()
        probabilities: np.ndarray = interpreter.get_tensor(wanted)
        return probabilities

    return predict


def median_ms(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, limit_s: float
) -> float:
    """Return the median time of a call in milliseconds, over calls of `limit_s` seconds."""
    for _ in range(20):
        predict(image)
    times = []
    end = time.perf_counter() + limit_s
    while time.perf_counter() < end:
        start = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Time the runtime that the arguments name."""
    runtime, path, image_file, seconds = sys.argv[1:]
    image = np.load(image_file)
    makers = {
        "predictor": predictor,
        "onnxruntime": onnxruntime,
        "openvino": openvino,
        "openvino-bf16": lambda path: openvino(path, "bf16"),
        "litert": litert,
    }
    predict = makers[runtime](path)
    probabilities = predict(image).ravel().tolist()
    print(json.dumps([median_ms(predict, image, float(seconds)), probabilities]))


if __name__ == "__main__":
    main()
