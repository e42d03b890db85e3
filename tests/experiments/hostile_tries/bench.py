"""Where hostile tries happen: folders, an adb server, a phone and tools of their own."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "tests/accuracy/data/pooled-float.tflite"
RUNS = 10
FLAGS = (
    "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs report_peak_memory_footprint "
    "use_xnnpack use_gpu use_nnapi input_layer input_layer_shape input_layer_value_files output_filepath"
)
SHORT = """
model = "{model}"
recipes = ["as-is"]
delegates = ["cpu"]
[measurement]
invocations = {invocations}
runs = 10
memory_invocations = 0
op_profile_invocations = 0
init_pairs = 0
warmup_max_s = 0
accuracy_samples = {samples}
timeout_s = {timeout_s}
"""
PATIENCE_S = 240.0
"""The computer may be busy; a try that needs longer than this hangs."""


class SkippedError(Exception):
    """A try needs what is not here."""


@dataclass(frozen=True)
class Try:
    """One attempt at harm."""

    number: int
    what: str
    promised: str
    is_slow: bool
    run: Callable[[Bench], object]


_tries: list[Try] = []


def attempt(
    number: int, what: str, promised: str, *, slow: bool = False
) -> Callable[[Callable[[Bench], object]], Callable[[Bench], object]]:
    """Register a function as a try."""

    def register(run: Callable[[Bench], object]) -> Callable[[Bench], object]:
        _tries.append(Try(number, what, promised, slow, run))
        return run

    return register


def all_tries() -> list[Try]:
    """Return every try by its number."""
    for module in ("tools", "phones", "stores", "streams", "inputs"):
        importlib.import_module(f"hostile_tries.{module}")
    return sorted(_tries, key=lambda one: one.number)


def block(us: float | str, runs: int = RUNS) -> str:
    """Return what the official tool prints of one run."""
    return (
        "STARTING!\n"
        "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.\n"
        f"count=1 curr={us}\n"
        f"Running benchmark for at least {runs} iterations and at least 0 seconds but terminate if exceeding 150 s.\n"
        f"count={runs} first={us} curr={us} min={us} max={us} avg={us} std=0\n"
        f"Inference timings in us: Init: 500, First inference: {us}, Warmup (avg): {us}, Inference (avg): {us}\n"
    )


GOOD = block(900)


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Return all that it printed."""
        return self.out + self.err

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of `--json`."""
        rows: list[dict[str, Any]] = json.loads(self.out)["rows"]
        return rows

    def is_clean(self, *codes: int) -> Ended:
        """Fail unless it ended with one of these codes, without a traceback."""
        assert "Traceback" not in self.said, self.said[-300:]
        assert not codes or self.code in codes, f"exit code {self.code}: {self.said[-300:]}"
        return self

    def says(self, *texts: str) -> Ended:
        """Fail unless all of these were printed, wherever the lines break."""
        said = " ".join(self.said.split())
        missing = [text for text in texts if text not in said]
        assert not missing, f"{missing} not in {self.said[-300:]}"
        return self

    def refuses(self, *codes: int) -> Ended:
        """Fail unless it ended with one of these codes and an error of one sentence at least."""
        assert self.is_clean(*codes).code, "exit code 0"
        assert "rror: " in self.err, f"no sentence: {self.err[-300:]}"
        return self


class Bench:
    """Runs the program as a user does, against a phone or this host with a stand-in for the tool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._phone_context: Any = None
        self._children: list[subprocess.Popen[str]] = []
        self._number = 0
        bases = Path(os.environ.get("HARNESS_CACHE", Path.home() / ".cache/harness")) / "virtual-phone"
        bases.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("HARNESS_BASE_IMAGES", str(bases))
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        settings = {
            "HOME": folder / "home",
            "HARNESS_CACHE": folder / "cache",
            "HARNESS_RESULTS": folder / "results",
            "HARNESS_LEASES": folder / "leases",
            "TMPDIR": folder / "tmp",
        }
        for path in settings.values():
            path.mkdir()
        self.environment = {name: str(path) for name, path in settings.items()}
        self.environment |= {"ANDROID_ADB_SERVER_PORT": str(port), "ADB_MDNS": "0", "ADB_EMU": "0", "COLUMNS": "160"}
        self.environment |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        os.environ.update(self.environment)
        os.environ.pop("ANDROID_SERIAL", None)
        os.environ.pop("HARNESS_TFLITE_TOOLS", None)  # each try would unpack them next to its stand-in

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.tidy()
        if self._phone_context:
            self._phone_context.__exit__(None, None, None)
        with suppress(FileNotFoundError):
            subprocess.run(["adb", "kill-server"], capture_output=True, check=False, timeout=30)

    @cached_property
    def phone(self) -> Any:
        """A virtual phone with a cable that can be slow, connected."""
        from harness.devices.adb.discovery import connect
        from harness.errors import HarnessError
        from harness.virtual_phone.phone import virtual_phone

        try:
            self._phone_context = virtual_phone(f"hostile-{os.getpid()}", cable=True)
            phone = self._phone_context.__enter__()
        except HarnessError as error:
            raise SkippedError(f"no virtual phone: {error}") from error
        connect(phone.serial)
        return phone

    @property
    def device(self) -> Any:
        """The phone as harness talks to it."""
        from harness.devices.adb.discovery import open_device

        return open_device(self.phone.serial)

    def tidy(self) -> None:
        """End what a try left."""
        for child in self._children:
            if child.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
        self._children.clear()
        if "phone" in self.__dict__:
            self.phone.faults.slow_cable(None)

    def new_folder(self) -> Path:
        """Return an empty folder."""
        self._number += 1
        folder = self.folder / f"try-{self._number}"
        folder.mkdir()
        return folder

    def tool(self, script: str, *, on_host: bool = False, log: str = GOOD) -> None:
        """Register a script as the only tool; it prints `log` after `script`, in which $count is its number."""
        from harness.benchmark.registry import ToolRegistry
        from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
        from harness.files import sha256_of
        from harness.virtual_phone.recording import host_abi

        registry = ToolRegistry()
        for known in registry.tools():
            registry.remove(known.sha256)
        folder = self.new_folder()
        path = folder / "benchmark_model"
        self.counter = self.folder / "count" if on_host else self.phone.processes.inside("data/count")
        self.counter.unlink(missing_ok=True)
        counter = self.counter if on_host else "/data/count"
        shell = "/bin/sh" if on_host else "/system/bin/sh"
        count = f"echo >>{counter}\ncount=$(wc -l <{counter})\ncount=$((count))"
        lasting = "sleep 0.05"  # longer than the runs that it prints, which harness compares with its clock
        runs = f"runs={RUNS}; for argument; do case $argument in --num_runs=*) runs=${{argument#*=}} ;; esac; done"
        steps = "\n".join((f"#!{shell}", count, runs, lasting, script))
        path.write_text(f"{steps}\nsed \"s/count={RUNS} /count=$runs /\" <<'END'\n{log}END\n")
        path.chmod(0o755)
        tool = Tool(
            name="benchmark_model",
            family=ToolFamily.INTERPRETER,
            system=ToolSystem.LINUX if on_host else ToolSystem.VIRTUAL_PHONE,
            abi=host_abi(),
            sha256=sha256_of(path),
            path=path,
            vendor_folder=None if on_host else folder,
            origin="hostile",
            flags=None,
        )
        registry.remember_flags(tool, FLAGS.split())

    def cli(
        self,
        *arguments: str | Path,
        timeout_s: float = PATIENCE_S,
        environment: Mapping[str, str] | None = None,
        shell: str = "",
        cwd: Path | None = None,
    ) -> Ended:
        """Run the program; `shell` is a line in which "$@" is the command."""
        command = [sys.executable, "-m", "harness", *map(str, arguments)]
        if shell:
            command = ["bash", "-c", shell, "bash", *command]
        child = self.start(command, environment or {}, cwd)
        out, err = child.communicate(timeout=timeout_s)
        return Ended(child.returncode, out, err)

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a command in a session of its own, ended after the try."""
        child = subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def spec(self, *, invocations: int = 5, samples: int = 0, limit_s: float = 20, model: Path = MODEL) -> Path:
        """Write a short spec."""
        file = self.new_folder() / "sweep.toml"
        file.write_text(SHORT.format(model=model, invocations=invocations, samples=samples, timeout_s=limit_s))
        return file

    def sweep(
        self,
        script: str = "",
        *,
        on_host: bool = False,
        log: str = GOOD,
        results: Path | None = None,
        shell: str = "",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
        options: Sequence[str | Path] = (),
        **spec: Any,
    ) -> Ended:
        """Sweep one cell with a stand-in for the tool, and return how it ended; its rows are on stdout."""
        command = self.sweep_command(script, on_host=on_host, log=log, results=results, **spec)
        return self.cli(*command, *options, timeout_s=timeout_s, shell=shell, environment=environment)

    def sweep_command(
        self,
        script: str = "",
        *,
        on_host: bool = False,
        log: str = GOOD,
        results: Path | None = None,
        **spec: Any,
    ) -> list[str]:
        """Register the tool and return the arguments of such a sweep."""
        self.tool(script, on_host=on_host, log=log)
        serial = "host" if on_host else self.phone.serial
        self.results = results or self.new_folder() / "results"
        return ["sweep", str(self.spec(**spec)), "--device", serial, "--results", str(self.results), "--json"]

    @contextmanager
    def sweeping(
        self,
        script: str = "sleep 0.3",
        *,
        after: int = 2,
        **options: Any,
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a sweep and enter the block once its tool has run `after` times."""
        command = self.sweep_command(script, **options)
        child = self.start([sys.executable, "-m", "harness", *command])
        self.await_count(after, child)
        yield child

    def await_count(self, count: int, child: subprocess.Popen[str] | None = None) -> None:
        """Wait until the tool has run so many times."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.counter.exists() or len(self.counter.read_bytes()) < count:
            assert time.monotonic() < deadline, f"the tool did not run {count} times"
            assert child is None or child.poll() is None, child.communicate()[1][-300:] if child else ""
            time.sleep(0.05)

    def end(self, child: subprocess.Popen[str]) -> Ended:
        """Wait for a command."""
        out, err = child.communicate(timeout=PATIENCE_S)
        return Ended(child.returncode, out, err)

    def resume(self, results: Path | None = None) -> Ended:
        """Resume the last sweep, and require that it is complete then."""
        ended = self.cli("sweep", "--resume", "latest", "--results", results or self.results, "--json").is_clean(0, 1)
        (row,) = ended.rows
        assert row["invocations_ok"] >= 5, row
        return ended

    def show(self) -> list[dict[str, Any]]:
        """Return the rows of the last sweep as they are stored."""
        return self.cli("results", "show", "latest", "--results", self.results, "--json").is_clean().rows

    def blob(self, path: Path) -> str:
        """Return where a file lies on the phone."""
        from harness.files import sha256_of

        return f"/data/local/tmp/harness/blobs/{sha256_of(path)}"

    def space(self, size: str) -> Path:
        """Return a disk of so many bytes, ended with the bench. Raises `SkippedError` if none can be had."""
        folder = self.new_folder()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
        if mounted.returncode:
            raise SkippedError("cannot mount a small disk")
        return folder

    def drop(self, folder: Path) -> None:
        """Give a small disk back."""
        subprocess.run(["umount", "-l", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def no_number(row: Mapping[str, Any], *classes: str) -> None:
    """Fail if a row counts, or failed with another class than these."""
    assert row["rank"] is None, row["rank"]
    assert row["latency_median_us"] is None, row["latency_median_us"]
    assert not classes or row["failure_class"] in classes, row["failure_class"]
