"""Find the processes and the file tree of one running phone from this computer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.errors import UsageError

PID_FILE = "pid"
"""In the phone's folder; `launch.sh` writes it."""
_STOPPED = "TtZX"
"""The kernel's letters for a thread that is stopped, traced, or dead."""


class PhoneProcesses:
    """The processes of the phone whose files lie in `folder`; they may end between any two calls."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def outer_pid(self) -> int | None:
        """Return the process that holds the phone's namespaces open; None if the phone is not running."""
        try:
            pid = int((self.folder / PID_FILE).read_text())
            status = Path(f"/proc/{pid}/stat").read_text()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):  # the process may end between any two of these reads
            return None
        is_zombie = status.rpartition(")")[2].split()[0] == "Z"
        return None if is_zombie or b"unshare" not in command else pid

    def init_pid(self) -> int:
        """Return the phone's init, by its number on this computer. Raises `UsageError` if the phone is not running."""
        pid = self.outer_pid()
        children = _children(pid) if pid else []
        if not children:
            raise UsageError(f"The virtual phone {self.name!r} is not running.", "Run `harness phone list`.")
        return children[0]

    def adbd_pid(self) -> int:
        """Return the phone's adbd. Raises `UsageError` if it is not running."""
        for pid in _children(self.init_pid()):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().startswith("adbd"):
                    return pid
        raise UsageError(f"adbd is not running on {self.name}.", "Switch the phone on, or wait a second.")

    def is_stopped(self, pid: int) -> bool:
        """Return True if no thread of a process can run, because each is stopped or the process has ended."""
        with suppress(OSError):
            threads = [thread / "stat" for thread in Path(f"/proc/{pid}/task").iterdir()]
            return all(thread.read_text().rpartition(")")[2].split()[0] in _STOPPED for thread in threads)
        return not Path(f"/proc/{pid}").exists()

    def inside(self, path: str) -> Path:
        """Return a path of the phone's own file tree as this computer sees it."""
        return Path(f"/proc/{self.init_pid()}/root") / path

    def running_folder(self) -> Path:
        """Return the phone's folder. Raises `UsageError` if the phone is not running."""
        self.init_pid()
        return self.folder


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # the process may end during this loop
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children
