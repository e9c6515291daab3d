"""Prints KServe's manifest for a bundle: python inference_service.py dist/digits s3://models/dist.

The storage URI is that of the folder of bundles, which is a model repository for Triton.
"""

import argparse
import re

from serving.bundle import read_manifest
from serving.errors import ManifestError
from serving.versions import find_version

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


def service_name(model_name: str) -> str:
    """Return a name for the service: a letter, then lower-case letters, digits and hyphens.

    A host name has 63 characters, of which KServe needs 10 for `-predictor`.
    """
    name = re.sub(r"[^a-z0-9]+", "-", model_name.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"model-{name}"
    return name[:53].strip("-")


def render_service(model_name: str, storage_uri: str) -> str:
    """Return the YAML."""
    return SERVICE.format(name=service_name(model_name), storage_uri=storage_uri)


def main() -> None:
    """Print the manifest of a bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", help="Folder of a model, such as dist/digits.")
    parser.add_argument(
        "storage_uri", help="URI of the folder of bundles, such as s3://models/dist."
    )
    given = parser.parse_args()
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", given.storage_uri):
        parser.error(
            f"storage_uri must be a URI such as s3://models/dist. Received: {given.storage_uri!r}."
        )
    try:
        name = read_manifest(find_version(given.bundle)).name
    except ManifestError as error:
        parser.error(str(error))
    print(render_service(name, given.storage_uri), end="")


if __name__ == "__main__":
    main()
