"""Prints KServe's manifest for a bundle: python inference_service.py dist/digits s3://models/dist.

The address is that of the folder of bundles, which is a model repository as Triton reads it.
"""

import re
import sys

from serving.bundle import find_version, read_manifest

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    minReplicas: 2
    maxReplicas: 10
    scaleMetric: cpu
    scaleTarget: 70
    model:
      modelFormat:
        name: onnx
        version: "1"
      runtime: kserve-tritonserver
      protocolVersion: v2
      storageUri: {storage_uri}
      resources:
        requests:
          cpu: "1"
          memory: 1Gi
        limits:
          cpu: "1"
          memory: 1Gi
"""


def render_service(model_name: str, storage_uri: str) -> str:
    """Return the YAML; Kubernetes takes names of small letters, digits and hyphens alone."""
    name = re.sub(r"[^a-z0-9]+", "-", model_name.lower()).strip("-")
    return SERVICE.format(name=name, storage_uri=storage_uri)


if __name__ == "__main__":
    bundle, storage_uri = sys.argv[1:]
    print(render_service(read_manifest(find_version(bundle)).name, storage_uri), end="")
