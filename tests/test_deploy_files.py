"""The files in `deploy/` against the schemas of what reads them, and against this server."""

import json
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import kubernetes_validate
import pytest
import typer
import yaml
from jsonschema_rs import Draft202012Validator

from serving.server.openapi import describe_api

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KSERVE = json.loads((ROOT / "tests" / "schemas" / "kserve.json").read_text())
PATHS = describe_api()["paths"].keys() | {"/metrics"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def check_kubernetes(document):
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def serve_options():
    from app.commands.cli import app

    command = typer.main.get_command(app).commands["serve"]
    return {option for parameter in command.params for option in parameter.opts}


def containers():
    (deployment, _), (runtime, _) = documents("kubernetes.yaml"), documents("kserve.yaml")
    return [
        *deployment["spec"]["template"]["spec"]["containers"],
        *runtime["spec"]["containers"],
    ]


@pytest.mark.parametrize("document", documents("kubernetes.yaml"), ids=lambda d: d["kind"])
def test_kubernetes_takes_the_files(document):
    check_kubernetes(document)
    with pytest.raises(kubernetes_validate.ValidationError):
        check_kubernetes({**document, "spec": {**document["spec"], "replica": 2}})


@pytest.mark.parametrize("document", documents("kserve.yaml"), ids=lambda d: d["kind"])
def test_kserve_takes_the_files(document):
    validator = Draft202012Validator(KSERVE[document["kind"]])
    validator.validate(document)
    assert not validator.is_valid({**document, "spec": {**document["spec"], "model": 2}})


@pytest.mark.parametrize("container", containers(), ids=lambda c: c["name"])
def test_a_container_is_one_of_kubernetes_and_fits_the_server(container):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    check_kubernetes(pod | {"spec": {"containers": [{**container, "volumeMounts": []}]}})
    given = dict(pairwise(container["args"]))
    assert {word for word in given if word.startswith("--")} <= serve_options()
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {int(given[word]) for word in given if word.endswith("port")} <= {*names.values()}
    for probe in (container[name]["httpGet"] for name in PROBES if name in container):
        assert probe["path"] in PATHS
        assert probe["port"] in {*names, *names.values()}
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_a_pod_is_given_time_to_complete_its_requests():
    deployment = documents("kubernetes.yaml")[0]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= seconds + 31  # the server's own limit is 30
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_unit(tmp_path):
    unit = (DEPLOY / "hornbill.service").read_text()
    program, *words = re.search(r"ExecStart=(.*)", unit)[1].split()
    assert program.endswith("/bin/hornbill")
    assert {word for word in words if word.startswith("--")} <= serve_options()
    path = tmp_path / "hornbill.service"
    path.write_text(unit.replace(program, "/bin/sh"))
    command = ["systemd-analyze", "verify", path]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_of_the_image_asks_for_readiness_without_a_proxy(status):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    words = re.search(r"HEALTHCHECK .*\\\n +(\[.*\])", (ROOT / "Dockerfile").read_text())[1]
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        program, *words = json.loads(words.replace(":8000", f":{server.server_port}"))
        finished = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            env={"http_proxy": "http://127.0.0.1:9"},
            check=False,
        )
        server.shutdown()
    assert program == "python"
    assert (finished.returncode == 0) == (status == 200)


def test_the_image_runs_as_a_numbered_user_that_is_not_root():
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = re.findall(r"^USER (\d+)", dockerfile, re.MULTILINE)[-1]
    assert int(user) > 0
    deployment = documents("kubernetes.yaml")[0]
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == int(user)
