"""What long work tells whoever watches it; the command line draws it, tests collect it."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Called from several threads at once."""

    def note(self, text: str) -> None:
        """Say one sentence that stays on the screen."""
        ...

    def begin(self, name: str, total: int) -> None:
        """Begin a bar called `name` (a device, or the making of a variant) of `total` steps."""
        ...

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """So many steps of the bar are done; `doing` says what comes next."""
        ...

    def wait(self, name: str, doing: str) -> None:
        """Say what the bar waits for; it does not move."""
        ...

    def end(self, name: str) -> None:
        """Take the bar away."""
        ...


class SilentObserver:
    """Watches nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def begin(self, name: str, total: int) -> None:
        """Draw nothing."""

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """Draw nothing."""

    def wait(self, name: str, doing: str) -> None:
        """Draw nothing."""

    def end(self, name: str) -> None:
        """Draw nothing."""
