"""Draw what long work does: one bar a device or variant, on stderr, and plain lines where nobody watches."""

from __future__ import annotations

import threading
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.cli.output import error_console


class ProgressBars:
    """An observer that draws with rich. Into a pipe or a file it writes the notes alone."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or error_console()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[doing]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Print one sentence above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str, total: int) -> None:
        """Draw a bar."""
        with self._lock:
            self._tasks[name] = self._bars.add_task(escape(name), total=total, doing="")

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """Move a bar by so many steps."""
        with self._lock:
            self._bars.update(self._tasks[name], advance=steps, doing=escape(doing))

    def wait(self, name: str, doing: str) -> None:
        """Write beside a bar what it waits for."""
        with self._lock:
            self._bars.update(self._tasks[name], doing=escape(doing))

    def end(self, name: str) -> None:
        """Take a bar away."""
        with self._lock:
            self._bars.remove_task(self._tasks.pop(name))
