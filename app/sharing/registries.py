"""Images in an OCI registry, through oras-py.

Credentials are those of the variables ORAS_USER and ORAS_PASS, or those that `docker login` and
`oras login` keep.
Source: the OCI distribution specification 1.1.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import oras.auth
import oras.container
import oras.logger
import oras.provider
import requests

from app.errors import SharingError
from serving.errors import cannot_read, cannot_write, one_line

from .images import MANIFEST, Descriptor
from .references import Reference
from .stores import MAX_MANIFEST

# Seconds to connect, and between two parts of a response.
_TIMEOUT_S = (10, 60)
_CHUNK = 2**20


class _RefusedError(Exception):
    """The credentials are refused, or there are none."""


class _Registry(oras.provider.Registry):
    """oras-py's registry, which tries one that is down again for two minutes."""

    def do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        try:
            send = oras.provider.Registry.do_request.__wrapped__
            response: requests.Response = send(self, *arguments, **options)
        except requests.RequestException:
            raise
        except (ValueError, AttributeError):  # there is nothing to authenticate with
            raise _RefusedError from None
        if response.status_code in (401, 403):
            raise _RefusedError
        return response


class Repository:
    """The images of one name in a registry; see `stores.Store`."""

    def __init__(self, place: Reference) -> None:
        """Find out how the registry authenticates.

        Raises:
            SharingError: it does not respond, or is none.
        """
        oras.logger.logger.set_level(logging.CRITICAL)  # errors are raised, and told once
        self.place = place
        self.container = oras.container.Container("image")
        self.container.registry, self.container.repository = place.host, place.repository
        self.registry = _Registry(insecure=place.scheme == "http")
        session = self.registry.session
        session.request = partial(session.request, timeout=_TIMEOUT_S)
        with _told(place):
            response = session.get(f"{place.scheme}://{place.host}/v2/")
        challenge = response.headers.get("WWW-Authenticate", "").lower()
        if not response.ok and not challenge:
            raise SharingError(
                f"{place.host} must be an OCI registry. Received: status {response.status_code} "
                f"from {response.url}."
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise SharingError(_no_registry(place))
        if challenge.startswith("basic"):
            insecure = place.scheme == "http"
            self.registry.auth = oras.auth.get_auth_backend("basic", session, insecure)
        _log_in(self.registry.auth, self.container)

    def tags(self) -> list[str]:
        """Return all tags."""
        with _told(self.place):
            url = f"{self.registry.prefix}://{self.container.tags_url()}"
            if self.registry.do_request(url).status_code == requests.codes.not_found:
                raise SharingError(f"{self.place.place} must exist. Received: no such repository.")
            try:
                tags: list[str] = self.registry.get_tags(self.container)
            except (AttributeError, TypeError):  # of JSON of another kind
                raise SharingError(_no_registry(self.place)) from None
            return [tag for tag in tags if isinstance(tag, str)]

    def read_manifest(self, name: str) -> bytes | None:
        """Return the manifest with a tag or digest; None if there is none."""
        with _told(self.place):
            url = f"{self.registry.prefix}://{self.container.manifest_url(name)}"
            response = self.registry.do_request(url, headers={"Accept": MANIFEST}, stream=True)
            if response.status_code == requests.codes.not_found:
                return None
            self._check(response)
            content: bytes = response.raw.read(MAX_MANIFEST, decode_content=True)
            return content

    def fetch(self, blob: Descriptor, path: Path) -> None:
        """Write a blob into a file, at most one byte more than it must have."""
        with _told(self.place):
            response = self.registry.get_blob(self.container, blob.digest, stream=True)
            self._check(response)
            left = blob.size + 1
            with _written(path), path.open("wb") as file:
                for part in response.iter_content(_CHUNK):
                    file.write(part[:left])
                    left -= len(part)
                    if left <= 0:
                        break

    def add(self, blob: Descriptor, path: Path) -> None:
        """Store the content of a file."""
        with _told(self.place):
            response = self.registry.upload_blob(str(path), self.container, blob.as_json())
            self._check(response)

    def publish(self, manifest: bytes, tag: str) -> None:
        """Store a manifest whose blobs are stored; its tag then names this one."""
        with _told(self.place):
            url = f"{self.registry.prefix}://{self.container.manifest_url(tag)}"
            headers = {"Content-Type": MANIFEST}
            self._check(self.registry.do_request(url, "PUT", data=manifest, headers=headers))

    def _check(self, response: requests.Response) -> None:
        """Raise `SharingError` unless a request succeeded."""
        if not response.ok:
            raise SharingError(
                f"{self.place.host} must accept the request. Received: status "
                f"{response.status_code}, {_message_of(response)}."
            )


def _log_in(auth: Any, container: oras.container.Container) -> None:
    user, password = os.environ.get("ORAS_USER"), os.environ.get("ORAS_PASS")
    if user and password:
        auth.set_basic_auth(user, password)
        return
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    path = folder / "config.json"
    if not path.exists():
        return
    try:
        config = json.loads(path.read_bytes())
        # oras-py itself reads only ~/.docker.
        auth._auth_config = {key: config.get(key) or {} for key in ("auths", "credHelpers")}
        auth._auth_config["credsStore"] = config.get("credsStore")
        auth.load_configs(container)
    except (OSError, ValueError, AttributeError) as error:
        raise SharingError(cannot_read(path, error, "credentials")) from None


@contextlib.contextmanager
def _told(place: Reference) -> Iterator[None]:
    """Raise what goes wrong between this machine and a registry as `SharingError`."""
    try:
        yield
    except SharingError:
        raise
    except _RefusedError:
        raise SharingError(
            f"{place.host} must accept the credentials, of docker login or of ORAS_USER and "
            f"ORAS_PASS, for {place.repository}. Received: a refusal."
        ) from None
    except requests.exceptions.InvalidJSONError:
        raise SharingError(_no_registry(place)) from None
    except requests.RequestException as error:
        raise SharingError(
            f"The registry {place.host} must respond. Received: {_reason_of(error)}."
        ) from None
    except ValueError as error:
        raise SharingError(f"{place.host} cannot be used: {one_line(error):.200}.") from None


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except requests.RequestException:  # an OSError too
        raise
    except OSError as error:
        raise SharingError(cannot_write(path, error)) from None


def _no_registry(place: Reference) -> str:
    return f"{place.host} must be an OCI registry. Received: an answer that is none of a registry."


def _reason_of(error: Exception) -> str:
    """Return the innermost reason of an error of requests."""
    if isinstance(error, requests.Timeout):
        return f"nothing within {_TIMEOUT_S[1]} seconds"
    text = one_line(error)
    for word in ("Connection refused", "Name or service not known", "certificate verify failed"):
        if word.lower() in text.lower():
            return word.lower()
    return text[:200]


def _message_of(response: requests.Response) -> str:
    """Return what a registry says about a request that failed."""
    try:
        return one_line(response.json()["errors"][0]["message"])[:160]
    except (ValueError, LookupError, TypeError):
        return response.reason or "without a reason"
