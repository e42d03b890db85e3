"""Wait until the phone has carried out what it was last told: a command outlives the harness that sent it."""

from __future__ import annotations

from contextlib import suppress

from harness.devices.device import Device
from harness.errors import DeviceError

_LOOKS = 100
"""How often at most, 0.05 s apart: a `settings put` takes seconds on a phone that is busy."""
_COMMANDS = (
    "[/]data/local/tmp/harness|[s]tay_on_while_plugged_in|[k]eyevent|[f]ixed-performance-mode"
    "|[s]caling_(governor|min_freq|max_freq)"
)
"""What stands in the command lines of the knobs and of the note; written so that the pattern does not find itself."""
_SCRIPT = f"""
n=0
while [ $n -lt {_LOOKS} ] && grep -qE '{_COMMANDS}' /proc/[0-9]*/cmdline 2>/dev/null; do
  sleep 0.05
  n=$((n + 1))
done
"""
_TIMEOUT_S = 60.0


def await_commands(device: Device) -> None:
    """Return when no command that turns a knob runs on a phone any more, at the latest after some seconds.

    One that was sent just before harness was killed would undo a restoration that overtakes it. Never raises: a phone
    that is gone is found out by what comes next.
    """
    with suppress(DeviceError):
        device.run_script(_SCRIPT, timeout_s=_TIMEOUT_S)
