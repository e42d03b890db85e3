"""Until when a night may measure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from harness.errors import UsageError

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def next_time(text: str, now: datetime) -> datetime:
    """Return the next moment at which clocks show `text`, such as `06:00`, in the zone of `now`. Raises `UsageError`.

    The clock of the wall counts: in a night with a change to summer time, an hour less is left.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--until: found {text!r}.", "Write the time of day as 06:00.")
    wall = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0, tzinfo=None)
    if wall <= now.replace(tzinfo=None):
        wall += timedelta(days=1)
    return wall.replace(tzinfo=now.tzinfo) if now.tzinfo else wall.astimezone()
