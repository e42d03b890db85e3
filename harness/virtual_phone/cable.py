"""A faulty cable between the adb server and a phone: a TCP proxy that can be slowed, stopped and cut."""

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

from harness.virtual_phone.processes import PID_FILE

CONTROL_PIPE = "cable-control"
PORT_FILE = "cable-port"

_CHUNK_BYTES = 65536
_POLL_S = 0.05
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cable:
    """Listens on a loopback port and passes everything on to `target_port` until told otherwise."""

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
        """Where the adb server is to connect."""
        return int(self._listener.getsockname()[1])

    def slow(self, bytes_per_s: float | None) -> None:
        """Limit the rate in both directions together; None lifts the limit."""
        self._rate_bytes_per_s = bytes_per_s

    def stop(self) -> None:
        """Let nothing through any more, without a word to either end."""
        self._passes.clear()

    def go(self) -> None:
        """Let everything through again."""
        self._passes.set()

    def cut(self) -> None:
        """Unplug: reset every connection and refuse new ones until `plug`."""
        self._plugged = False
        self._reset_all()

    def plug(self) -> None:
        """Accept connections again."""
        self._plugged = True

    def close(self) -> None:
        """Take the cable away."""
        self._listener.close()
        self._reset_all()

    def _reset_all(self) -> None:
        with self._lock:
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
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # adbd and adb's server do so too
            with self._lock:
                self._ends |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True, name="cable").start()

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
    """Close a socket at once: without a shutdown it lives on while another thread reads from it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def serve(target_port: int, folder: Path) -> None:
    """Be the cable of the phone in `folder` until it is gone: the port goes to a file, commands come by a pipe."""
    cable = Cable(target_port)
    control = folder / CONTROL_PIPE
    os.mkfifo(control)
    commands = os.fdopen(os.open(control, os.O_RDWR), "r")  # read and write: never at its end while nobody writes
    part = folder / f"{PORT_FILE}.part"
    part.write_text(str(cable.port))
    part.rename(folder / PORT_FILE)
    while (folder / PID_FILE).exists():
        if select.select([commands], [], [], 1.0)[0]:
            _obey(cable, commands.readline().split())


def _obey(cable: Cable, words: list[str]) -> None:
    match words:
        case ["slow", rate]:
            cable.slow(float(rate) or None)
        case ["stop" | "go" | "cut" | "plug" as action]:
            getattr(cable, action)()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
