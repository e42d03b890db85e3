"""Standard streams that may be full or closed: who listens never decides what is measured."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

from harness.errors import HarnessError


class _Stream:
    """Passes everything on to a stream of Python's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; an error of the device is `failed`'s."""
        if text == "":  # typer tries a stream like this and swallows what it raises: the error would be lost
            return 0
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self.failed(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Go on without this stream: progress and warnings are lost, results are not."""
        _point_to_nowhere(self._stream)


class _Results(_Stream):
    """Stdout: results that cannot be written are an error."""

    def failed(self, error: Exception) -> None:
        """Raise `HarnessError`; a reader that has gone, such as `head`, is none."""
        _point_to_nowhere(self._stream)
        if getattr(error, "errno", None) == errno.EPIPE:
            raise error
        reason = getattr(error, "strerror", None) or str(error)
        raise HarnessError(
            f"Cannot write to stdout: {reason}.", "What was measured is stored: run `harness results show`."
        )


def _point_to_nowhere(stream: TextIO) -> None:
    """Let Python flush what is left of a stream's buffer at its end."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), stream.fileno())


def guard_streams() -> None:
    """Replace stdout and stderr, unless they were closed from the start."""
    if sys.stdout:
        sys.stdout = _Results(sys.stdout)
    if sys.stderr:
        sys.stderr = _Stream(sys.stderr)
