"""Shows how far the reading and preparation of data and the evaluation are, on standard error."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serving.errors import printable

# Nothing is shown of what takes less time than this.
_PATIENCE_S = 3.0
# Between two lines in a log, where a bar cannot be drawn.
_LOG_EVERY_S = 10.0


class ReadingProgress:
    """Shows a bar with images/s or rows/s and the time left; in a log, a line from time to time.

    It is a `ReadingObserver`. Use it as a context manager.

    Args:
        console: where to write; standard error by default.
        patience_s: seconds before anything is shown; three by default.
        log_every_s: seconds between lines in a log.

    Attributes:
        notes: what it was told to note, each line once.
    """

    def __init__(
        self,
        console: Console | None = None,
        patience_s: float | None = None,
        log_every_s: float = _LOG_EVERY_S,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._patience_s = _PATIENCE_S if patience_s is None else patience_s
        self._log_every_s = log_every_s
        self._start = self._shown = time.monotonic()
        self._done = 0
        self._bar: Progress | None = None
        self.notes: list[str] = []

    def advance(self, done: int, total: int, activity: str = "reading images") -> None:
        """Show that `done` of `total` images or rows are done; a total of 0 is not known."""
        now = time.monotonic()
        if done <= self._done:  # another activity, or another source
            self._start = self._shown = now
        self._done = 0 if done == total else done
        spent = max(now - self._start, 1e-6)
        is_late = done > 0 and spent >= self._patience_s
        if done == total:
            self.stop()
        elif is_late and self._console.is_terminal:
            self._draw(done, total, done / spent, activity)
        elif is_late and (self._shown == self._start or now - self._shown >= self._log_every_s):
            self._shown = now
            rate = done / spent
            verb, _, noun = activity.rpartition(" ")
            amount = f"{done:,} of {total:,} {noun}" if total else f"{done:,} {noun} so far"
            left = f", {(total - done) / rate:,.0f} s left" if total else ""
            self.write(f"{verb} {amount}, {rate:,.0f} {noun}/s{left}")

    def begin(self, step: str) -> None:
        """Show that a step begins."""
        self.stop()
        self.write(f"{step} …")

    def note(self, line: str) -> None:
        """Show a line, once: trainings on parts of the data repeat what they tell."""
        self.stop()
        if line not in self.notes:
            self.notes.append(line)
            self.write(f"note: {line}")

    def write(self, line: str) -> None:
        """Write a line."""
        self._console.print(printable(line), soft_wrap=True, markup=False, highlight=False)

    def _draw(self, done: int, total: int, rate: float, activity: str) -> None:
        amount = f"{done / total:4.0%}" if total else f"{done:,} so far"
        if self._bar is None:
            self._bar = Progress(
                TextColumn(activity),
                BarColumn(),
                TextColumn("{task.fields[amount]}"),
                TextColumn(f"{{task.fields[rate]:,.0f}} {activity.rpartition(' ')[2]}/s"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total or None, rate=rate, amount=amount)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total or None, rate=rate, amount=amount)

    def stop(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        """Return the observer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the terminal."""
        self.stop()
