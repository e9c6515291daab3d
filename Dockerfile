# The server without TensorFlow:
#   docker build -t hornbill .
#   docker run --rm -p 8000:8000 -v "$PWD/dist:/models:ro" hornbill
FROM python:3.12-slim

# Turns off the telemetry of onnxruntime; docker run -e ORT_DISABLE_TELEMETRY=0 turns it on.
ENV ORT_DISABLE_TELEMETRY=1
WORKDIR /hornbill
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY export export
COPY models models
COPY serving serving
# benchmarks/image_size.py adds up what this takes.
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve,grpc,sign,otel]' \
    && useradd --uid 10001 --create-home hornbill

# By number, so that Kubernetes sees that it is not root.
USER 10001
EXPOSE 8000
# For HTTP on port 8000: with TLS, another port or a socket, docker run --no-healthcheck. Without the
# proxies of the environment, which do not lead here.
HEALTHCHECK --interval=10s --start-period=60s CMD \
    ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/v2/health/ready')"]
# Exec form, so that SIGTERM reaches the server, which then completes the requests in flight.
ENTRYPOINT ["hornbill", "serve", "/models", "--host", "0.0.0.0"]
