"""A real PostgreSQL server for a test or a benchmark, made of Debian's package (`apt install postgresql`).

pytest-postgresql does less than is needed here: it has no answer for tests that run as root, which PostgreSQL refuses,
none for a server that is killed and comes back, and benchmarks cannot use it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

USER = "harness"
WITH_PASSWORD, KEPT_OUT = "with_password", "kept_out"
"""Two users whom the server asks for a password (by TCP), and does not let in; to be made by `CREATE ROLE`."""
_START_LIMIT_S = 60
_UNPRIVILEGED = ("--reuid=nobody", "--regid=nogroup", "--clear-groups")
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
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
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
        """Start the server, which answers when this returns. It ends with the thread that started it."""
        until = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < until:
            if not self.running:  # also where it gave up, since children of a killed server had not ended yet
                self._spawn()
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"PostgreSQL did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def _spawn(self) -> None:
        settings = [f"listen_addresses={self._addresses}", "max_connections=200"]
        settings += [] if self._durable else ["fsync=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                self._command("postgres", "-D", self._data, "-p", self.port, "-k", self._socket, *options),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Shut the server down in an orderly way: clients are cut off, what is committed is kept."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", "fast", "stop")
        self._wait()

    def kill(self) -> None:
        """Kill the server's processes at once (SIGKILL), as when the computer's memory runs out."""
        if not self.running:
            return
        server = psutil.Process(self.pid)
        for process in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._wait()

    def restart(self) -> None:
        """Stop and start again."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        """Process id of the server itself, whose children do the work."""
        assert self._server is not None
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._server is not None and self._server.poll() is None

    def url(self, database: str = "postgres", *, user: str = USER, password: str | None = None) -> str:
        """Return what harness takes as `--results`."""
        who = user if password is None else f"{user}:{password}"
        return f"postgresql+psycopg://{who}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """Return the same by the Unix socket."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self._socket}&port={self.port}"

    def new_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Carry out SQL behind harness's back, as the owner of everything; return its first value as text."""
        where = {"host": "127.0.0.1", "port": self.port, "user": USER, "dbname": database}
        with psycopg.connect(**where, autocommit=True) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return "" if row is None else str(row[0])

    def _wait(self) -> None:
        if self._server is not None:
            self._server.wait(_START_LIMIT_S)

    def _call(self, program: str, *arguments: str | Path) -> None:
        finished = subprocess.run(
            self._command(program, *arguments),
            cwd=self.folder,
            env=self._environment,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * _START_LIMIT_S,
        )
        if finished.returncode:
            raise RuntimeError(f"{program} failed: {finished.stderr.strip()}")

    def _command(self, program: str, *arguments: str | Path | int) -> list[str]:
        """Return the command line of one of the server's programs, which ends with us."""
        unprivileged = _UNPRIVILEGED if os.geteuid() == 0 else ()
        ends_with_us = ("setpriv", "--pdeathsig", "KILL")
        return [*ends_with_us, *unprivileged, str(self._programs / program), *map(str, arguments)]


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
