"""Computers made of Linux network namespaces: each has a loopback and a cable of its own to one switch.

Abstract Unix sockets belong to a network namespace, so that leases of phones do too: as on real computers.
"""

import os
import subprocess
from contextlib import ExitStack, contextmanager


class NoNamespacesError(Exception):
    """This user or kernel may not make them."""


class Switch:
    """A bridge to which computers are connected; this computer has the first address of its network."""

    def __init__(self, stack):
        self._stack = stack
        self._count = 0
        number = os.getpid() % 10_000
        self._prefix = f"hl{number}"
        self._subnet = f"10.{200 + number // 250 % 50}.{number % 250}"
        self.address = f"{self._subnet}.1"
        self.network = f"{self._subnet}.0/24"

    def switch_on(self):
        """Raises `NoNamespacesError`."""
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoNamespacesError(getattr(error, "stderr", "") or str(error)) from error
        self._stack.callback(_ip, "link", "delete", self._bridge)
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    @property
    def _bridge(self):
        return f"{self._prefix}b"

    def add_computer(self):
        """Connect a new computer."""
        self._count += 1
        name, near, far = (f"{self._prefix}{kind}{self._count}" for kind in ("n", "v", "w"))
        try:
            _ip("netns", "add", name)
        except subprocess.CalledProcessError as error:
            raise NoNamespacesError(error.stderr) from error
        self._stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("link", "set", near, "master", self._bridge, "up")
        address = f"{self._subnet}.{self._count + 1}"
        for command in (f"address add {address}/24 dev {far}", f"link set {far} up", "link set lo up"):
            _ip("-n", name, *command.split())
        return Computer(name, near, address)


class Computer:
    """One network namespace."""

    def __init__(self, namespace, cable, address):
        self.inside = ("ip", "netns", "exec", namespace)
        self.address = address
        self._cable = cable

    def cut_off(self):
        """Pull its cable: nothing goes through, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def connect(self):
        """Plug it in again."""
        _ip("link", "set", self._cable, "up")


@contextmanager
def switch():
    """Run a switch for a `with` block. Raises `NoNamespacesError` where that is not permitted."""
    with ExitStack() as stack:
        made = Switch(stack)
        made.switch_on()
        yield made


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)
