"""Run inside a host of the tests' lab: start virtual phones, connect them, and end with standard input."""

import sys
from contextlib import ExitStack
from pathlib import Path

from harness.devices.adb.discovery import connect
from harness.virtual_phone.phone import virtual_phone

if __name__ == "__main__":
    with ExitStack() as phones:
        vendor = Path(sys.argv[1]) if sys.argv[1] else None
        started = [phones.enter_context(virtual_phone(name, vendor=vendor)) for name in sys.argv[2:]]
        serials = [connect(phone.serial) for phone in started]
        print("READY", *serials, flush=True)
        sys.stdin.read()
