"""What happens on a host, told at the terminal where the sweep was started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from harness.progress import DeviceStatus, Observer, SilentObserver

_STATUS = TypeAdapter(DeviceStatus)
Message = dict[str, Any]


class SendingObserver(SilentObserver):
    """Turns what it is told into plain messages. A host's jobs make no variants, so there are no bars."""

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send

    def note(self, text: str) -> None:
        """Send one sentence."""
        self._send({"note": text})

    def warn(self, text: str) -> None:
        """Send one sentence about something that went wrong."""
        self._send({"warn": text})

    def show(self, status: DeviceStatus) -> None:
        """Send where a device is."""
        self._send({"show": _STATUS.dump_python(status, mode="json")})


def pass_on(message: Message, observer: Observer) -> None:
    """Tell an observer here what one on another host was told. Raises `ValidationError` for what is no message."""
    for kind, content in message.items():
        if kind == "note":
            observer.note(str(content))
        elif kind == "warn":
            observer.warn(str(content))
        elif kind == "show":
            observer.show(_STATUS.validate_python(content))
