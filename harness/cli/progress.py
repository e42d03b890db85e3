"""Show what long work does, on stderr: a live view, plain lines where nobody watches, or errors alone."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from harness.cli.output import error_console
from harness.errors import UsageError
from harness.progress import DeviceStatus, SilentObserver
from harness.report.terminal.live import Bar, LastStatus, live_view, plain_line

REFRESHES_PER_SECOND = 2
"""Drawing costs time on the host, which may be the one that is measured."""
QUARTERS = 4
"""In plain lines a bar tells each quarter."""


class QuietWatcher(SilentObserver):
    """Says only what went wrong."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def warn(self, text: str) -> None:
        """Print one sentence."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class PlainWatcher(QuietWatcher):
    """Writes one line an event: nothing moves, so it can be kept as a log."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars: dict[str, Bar] = {}
        self._statuses: dict[str, DeviceStatus] = {}
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Print one sentence."""
        self.warn(text)

    def begin(self, name: str, total: int) -> None:
        """Remember a bar."""
        with self._lock:
            self._bars[name] = Bar(name, total)

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """Print a line for each quarter of a bar."""
        with self._lock:
            before = self._bars[name]
            bar = self._bars[name] = replace(before, done=before.done + steps)
        total = max(bar.total, 1)
        if QUARTERS * bar.done // total > QUARTERS * before.done // total:
            self.note(f"{name}: {bar.done}/{bar.total}" + (f": {doing}" if doing else ""))

    def end(self, name: str) -> None:
        """Forget a bar."""
        with self._lock:
            del self._bars[name]

    def show(self, status: DeviceStatus) -> None:
        """Print a line, if the status is worth one."""
        with self._lock:
            before = self._statuses.get(status.serial)
            self._statuses[status.serial] = status
        if line := plain_line(status, before):
            self.note(line)


class LiveWatcher(QuietWatcher):
    """Draws all devices and bars in place, below what was said."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars: dict[str, Bar] = {}
        self._told: dict[str, tuple[DeviceStatus, float]] = {}
        """By serial, the last status and when it came."""
        self._lock = threading.Lock()
        self._waiting = Spinner("dots", "Working")
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print one sentence above the view."""
        self.warn(text)

    def begin(self, name: str, total: int) -> None:
        """Draw a bar."""
        with self._lock:
            self._bars[name] = Bar(name, total)

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """Move a bar by this many steps."""
        with self._lock:
            bar = self._bars[name]
            self._bars[name] = replace(bar, done=bar.done + steps, doing=doing)

    def wait(self, name: str, doing: str) -> None:
        """Write next to a bar what it works on."""
        with self._lock:
            self._bars[name] = replace(self._bars[name], doing=doing)

    def end(self, name: str) -> None:
        """Take a bar away."""
        with self._lock:
            del self._bars[name]

    def show(self, status: DeviceStatus) -> None:
        """Draw a device as it is now."""
        with self._lock:
            self._told[status.serial] = (status, time.monotonic())

    def _draw(self) -> RenderableType:
        now, size = time.monotonic(), self._console.size
        with self._lock:
            devices = [LastStatus(status, now - told_at) for status, told_at in self._told.values()]
            bars = list(self._bars.values())
        if not devices and not bars:
            return self._waiting
        return live_view(devices, bars, width=size.width, height=size.height - 1)


def watch(*, quiet: bool = False, plain: bool = False) -> QuietWatcher:
    """Return what shows progress here, to be used in a `with` block. Raises `UsageError` for both at once."""
    if quiet and plain:
        raise UsageError("Cannot combine --quiet and --plain.", "Choose one.")
    console = error_console()
    if quiet:
        return QuietWatcher(console)
    if logging.getLogger("harness").isEnabledFor(logging.INFO):
        return QuietWatcher(console)  # the log of -v says it all
    is_screen = console.file.isatty() and not console.is_dumb_terminal  # whatever FORCE_COLOR asks for
    return LiveWatcher(console) if is_screen and not plain else PlainWatcher(console)
