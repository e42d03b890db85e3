"""Read several files and commands of a device in one round trip: a script that prints them under marked titles."""

from __future__ import annotations

import re
from collections.abc import Mapping

_MARK = "@@harness:"
_TITLE = re.compile(rf"^{_MARK}(?P<title>[^\n]*)\n", re.MULTILINE)


def section_script(commands: Mapping[str, str]) -> str:
    """Return a script that runs constant commands one after the other; what one lacks does not stop the next."""
    parts = [f"echo '{_MARK}{title}'; {command} 2>/dev/null" for title, command in commands.items()]
    return "; echo; ".join(parts)


def split_sections(text: str) -> dict[str, str]:
    """Return the output of each command by its title."""
    pieces = _TITLE.split(text)[1:]
    return {title: body.strip("\n") for title, body in zip(pieces[::2], pieces[1::2], strict=True)}
