"""A real PostgreSQL server for a test or a benchmark, made of Debian's package (`apt install postgresql`).

pytest-postgresql does less than is needed here: it has no answer for tests that run as root, which PostgreSQL refuses,
none for a server that is killed and comes back, and benchmarks cannot use it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "harness"
WITH_PASSWORD, KEPT_OUT = "with_password", "kept_out"
"""Two users whom the server asks for a password (by TCP), and does not let in; to be made by `CREATE ROLE`."""
_START_LIMIT_S = 60
_UNPRIVILEGED = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
"""PostgreSQL does not run as root."""


def programs_folder() -> Path | None:
    """Return where Debian's package keeps the server's programs, of its newest version; None: not installed."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)


class PostgresqlServer:
    """One server in a folder of its own, on a TCP port and a Unix socket of its own, with a user who needs no password.

    Its `fsync` is off unless `durable`: it survives `kill`, for which the page cache is enough, but no power cut.
    """

    def __init__(self, folder: Path, *, durable: bool = False, network: tuple[str, str] | None = None) -> None:
        """Make the server's files; `start` starts it. Raises `RuntimeError` where the package is not installed.

        `network` is an address of this computer that it listens at too, and the network that may connect from there.
        """
        programs = programs_folder()
        if programs is None:
            raise RuntimeError("PostgreSQL's server (Debian: apt install postgresql)")
        self._programs = programs
        self._durable = durable
        self._data = folder / "data"
        self._socket = folder / "s"
        self._log = folder / "log"
        self.folder = folder
        self.port = _free_port()
        self._socket.mkdir()
        if os.geteuid() == 0:
            for owned in (folder, self._socket):
                shutil.chown(owned, "nobody", "nogroup")
        self._call("initdb", "-D", self._data, "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self._addresses = "127.0.0.1"
        if network:
            self._addresses += f",{network[0]}"
            with (self._data / "pg_hba.conf").open("a") as file:
                file.write(f"host all all {network[1]} trust\n")
        access = self._data / "pg_hba.conf"
        rules = f"host all {WITH_PASSWORD} all scram-sha-256\nhost all {KEPT_OUT} all reject\n"
        access.write_text(rules + access.read_text())

    def start(self) -> None:
        """Start the server, which answers when this returns."""
        settings = f"-p {self.port} -k {self._socket} -c listen_addresses={self._addresses} -c max_connections=200"
        settings += "" if self._durable else " -c fsync=off"
        self._call(
            "pg_ctl", "-D", self._data, "-l", self._log, "-o", settings, "-w", "-t", str(_START_LIMIT_S), "start"
        )

    def stop(self) -> None:
        """Shut the server down in an orderly way: clients are cut off, what is committed is kept."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", "fast", "stop")

    def kill(self) -> None:
        """Kill the server's processes at once (SIGKILL), as when the computer's memory runs out."""
        import psutil

        try:
            server = psutil.Process(self.pid)
            processes = [server, *server.children(recursive=True)]
        except (psutil.NoSuchProcess, FileNotFoundError):
            return
        for process in processes:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=_START_LIMIT_S)

    def restart(self) -> None:
        """Stop and start again."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        """Process id of the server itself. Raises `FileNotFoundError` where it does not run."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._run("pg_ctl", "-D", self._data, "status").returncode == 0

    def url(self, database: str = "postgres", *, user: str = USER, password: str | None = None) -> str:
        """Return what harness takes as `--results`."""
        who = user if password is None else f"{user}:{password}"
        return f"postgresql+psycopg://{who}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """Return the same by the Unix socket."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self._socket}&port={self.port}"

    def new_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Carry out SQL behind harness's back, as the owner of everything; return what psql prints."""
        call = ("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database, "-AtX")
        return self._call(*call, "-v", "ON_ERROR_STOP=1", "-c", statement).strip()

    def _call(self, program: str, *arguments: str | Path) -> str:
        finished = self._run(program, *arguments)
        if finished.returncode:
            said = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise RuntimeError(f"{program} failed: {finished.stderr.strip()} {said}")
        return finished.stdout

    def _run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        prefix = _UNPRIVILEGED if os.geteuid() == 0 else ()
        return subprocess.run(
            [*prefix, str(self._programs / program), *map(str, arguments)], cwd=self.folder, text=True, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * _START_LIMIT_S,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.folder)}, start_new_session=True,
        )  # fmt: skip


@contextmanager
def postgresql_server(*, durable: bool = False, network: tuple[str, str] | None = None) -> Iterator[PostgresqlServer]:
    """Run a server in a temporary folder for a `with` block. Its `url()` is what `--results` takes.

    The folder is no pytest's: those are closed to all but their owner, and the server is another user's where tests run
    as root.
    """
    with tempfile.TemporaryDirectory(prefix="harness-postgresql-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = PostgresqlServer(Path(folder), durable=durable, network=network)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
