"""Starts the tritonserver in nvidia-pytriton's wheel, with its Python backend.

MODEL=model.onnx python triton_server.py PORT GRPC_PORT METRICS_PORT
"""

import os
import sys
import sysconfig
from pathlib import Path

STUB = "triton_python_backend_stub"


def main() -> None:
    """Replace this process by tritonserver."""
    packages = Path(sysconfig.get_path("purelib"))
    triton = packages / "pytriton/tritonserver"
    stub = (
        triton / "backends/python" / STUB
    )  # where Triton looks for the stub of its Python version
    if not stub.exists():
        version = "{}.{}".format(*sys.version_info)
        stub.symlink_to(triton / "python_backend_stubs" / version / STUB)
    port, grpc_port, metrics_port = sys.argv[1:]
    command = [
        str(triton / "bin/tritonserver"),
        f"--model-repository={Path(__file__).parent / 'triton'}",
        f"--backend-directory={triton / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics_port}",
    ]
    os.execve(command[0], command, {**os.environ, "PACKAGES": str(packages)})  # noqa: S606


if __name__ == "__main__":
    main()
