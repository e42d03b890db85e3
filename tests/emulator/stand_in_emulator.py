"""In place of the SDK's emulator: it says what the real one was seen to say, and its Android is a virtual phone.

The real adb server is told of it as the real emulator does, with `host:emulator:PORT`.
"""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

from harness.virtual_phone.phone import VirtualPhone

RECORDED = Path(__file__).parent / "data"


def boot(name, port):
    """Start Android, tell the adb server, and let it boot for a while."""
    phone = VirtualPhone.start(f"emulated-{port}", port=port + 1, owned=True)
    phone.controls.set_property("sys.boot_completed", "")
    message = f"host:emulator:{port + 1}"
    with socket.create_connection(("127.0.0.1", int(os.environ["ANDROID_ADB_SERVER_PORT"]))) as server:
        server.sendall(f"{len(message):04x}{message}".encode())
    time.sleep(1.5)
    if name != "Never_Boots":
        phone.controls.set_property("sys.boot_completed", "1")
    signal.signal(signal.SIGTERM, lambda *_: (phone.stop(), sys.exit(0)))
    while True:
        signal.pause()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-list-avds", action="store_true")
    parser.add_argument("-avd")
    parser.add_argument("-port", type=int)
    given, _ = parser.parse_known_args()
    if given.list_avds:
        print((RECORDED / "list_avds_34.1.19.txt").read_text() + "Never_Boots\nNo_Acceleration")
    elif given.avd == "No_Acceleration":
        print((RECORDED / "no_acceleration_34.1.20.txt").read_text())
        sys.exit(1)
    else:
        print("INFO    | Android emulator version 34.1.20.0 (build_id 11610631) (CL:N/A)", flush=True)
        boot(given.avd, given.port)


main()
