"""Run a TCP proxy between the adb server and a phone that can be slowed, stopped and cut."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from harness.files import write_atomically
from harness.virtual_phone.processes import PID_FILE

CONTROL_PIPE = "cable-control"
PORT_FILE = "cable-port"

_CHUNK_BYTES = 65536
_POLL_S = 0.05
_PHONE_LOOK_S = 0.1
"""How long the cable may outlive its phone."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cable:
    """Forward a loopback port to `target_port`; its methods slow, stop and cut the connection."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", port))
        self._rate_bytes_per_s: float | None = None
        self._passes = threading.Event()
        self._passes.set()
        self._plugged = True
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True, name="cable").start()

    @property
    def port(self) -> int:
        """The port to which the adb server connects."""
        return int(self._listener.getsockname()[1])

    def slow(self, bytes_per_s: float | None) -> None:
        """Limit the total rate of both directions; None lifts the limit."""
        self._rate_bytes_per_s = bytes_per_s

    def stop(self) -> None:
        """Hold back all data; connections stay open."""
        self._passes.clear()

    def go(self) -> None:
        """Let data through again."""
        self._passes.set()

    def cut(self) -> None:
        """Unplug: reset every connection and refuse new ones until `plug`."""
        with self._lock:
            self._plugged = False
            self._reset_all()

    def plug(self) -> None:
        """Accept connections again."""
        self._plugged = True

    def close(self) -> None:
        """Close the proxy and all connections."""
        self._listener.close()
        with self._lock:
            self._reset_all()

    def _reset_all(self) -> None:
        """Reset every connection; the caller holds the lock."""
        for end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            _close(end)
        self._ends.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            if not self._plugged:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as adbd and the adb server do
            if not self._note(near, far):
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True, name="cable").start()

    def _note(self, near: socket.socket, far: socket.socket) -> bool:
        """Remember both ends of a connection; reset it and return False if the cable was cut while it was made."""
        with self._lock:
            self._ends |= {near, far}
            if not self._plugged:
                self._reset_all()
            return self._plugged

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK_BYTES):
                while not self._passes.wait(_POLL_S):
                    pass
                target.sendall(data)
                if self._rate_bytes_per_s:
                    time.sleep(len(data) / self._rate_bytes_per_s)
        except OSError:
            pass
        finally:
            with self._lock:
                self._ends -= {source, target}
            _close(source)
            _close(target)


def _close(end: socket.socket) -> None:
    """Close a socket at once; without a shutdown it stays open while another thread reads from it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def serve(target_port: int, folder: Path) -> None:
    """Run the cable of the phone in `folder` until the phone is gone; it reads commands from a pipe."""
    cable = Cable(target_port)
    control = folder / CONTROL_PIPE
    os.mkfifo(control)
    commands = os.fdopen(os.open(control, os.O_RDWR), "r")  # read and write, so that it never ends between two writers
    write_atomically(folder / PORT_FILE, str(cable.port).encode())
    while (folder / PID_FILE).exists():
        if select.select([commands], [], [], _PHONE_LOOK_S)[0]:
            _obey(cable, commands.readline().split())


def _obey(cable: Cable, words: list[str]) -> None:
    match words:
        case ["slow", rate]:
            cable.slow(float(rate) or None)
        case ["stop" | "go" | "cut" | "plug" as action]:
            getattr(cable, action)()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
