"""Run inside a host of the tests' lab: start virtual phones, connect them, and end with standard input."""

import sys
from contextlib import ExitStack

from harness.devices.discovery import connect
from harness.virtual_phone.phone import virtual_phone

if __name__ == "__main__":
    with ExitStack() as phones:
        serials = [connect(phones.enter_context(virtual_phone(name)).serial) for name in sys.argv[1:]]
        print("READY", *serials, flush=True)
        sys.stdin.read()
