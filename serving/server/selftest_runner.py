"""Lets every version answer its golden sample as a request: before it is served, and ever again."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import printable
from .answering import INFERENCE, Answers
from .errors import RequestError
from .selftest import SelfTest
from .telemetry import Metrics
from .versions import LoadedModel

_LOG = logging.getLogger("hornbill.server")
Models = Mapping[str, Mapping[int, LoadedModel]]


class SelfTestRunner:
    """Runs the self-tests of all versions."""

    def __init__(self, answers: Answers, metrics: Metrics) -> None:
        """Make it; `answers` answers the samples, `metrics` counts them."""
        self._answers = answers
        self._metrics = metrics

    async def watch(
        self, models: Callable[[], Models], pause_s: float, end: Callable[[], None]
    ) -> None:
        """Test every served version again and again, until one answers otherwise.

        Args:
            models: returns the served versions by name and number.
            pause_s: seconds between two tests of a version.
            end: called if one answers otherwise: this process must be replaced.
        """
        while True:
            await asyncio.sleep(pause_s)
            for versions in list(models().values()):
                for loaded in versions.values():
                    if reason := await self.test(loaded):
                        manifest = loaded.model.manifest
                        _LOG.error(
                            "%s version %d fails its self-test: %s This process is replaced.",
                            *(manifest.name, manifest.version, reason),
                        )
                        end()
                        return

    async def test(self, loaded: LoadedModel) -> str | None:
        """Let a version answer a golden sample as a request.

        Returns:
            What is wrong; empty if nothing is; None if the server is too busy to find out.
        """
        sent = loaded.model.selftest
        if sent is None:
            return ""
        try:
            reason = await self._send(loaded, sent)
        except RequestError as error:  # as a client would get it
            if error.status == 503:
                return None
            reason = str(error)
        except Exception as error:
            reason = printable(f"{type(error).__name__}: {error}")
        manifest = loaded.model.manifest
        result = "failed" if reason else "passed"
        self._metrics.selftests.labels(manifest.name, str(manifest.version), result).inc()
        return reason

    async def _send(self, loaded: LoadedModel, sent: SelfTest) -> str:
        headers: Any = sent.headers
        # Not received as a body: the length of clients' bodies is no limit of the model.
        response = await self._answers.answer(
            INFERENCE, loaded, headers, sent.body, run=loaded.model.run
        )
        self._answers.leave(response)
        if b"".join([response.body, *response.more]) == sent.expected:
            return ""
        return "a golden sample gets another answer than when the version was loaded."
