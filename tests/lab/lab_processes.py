"""The processes of a lab for a test: a scheduler, hosts with phones, and sweeps that are started from one place.

The tool is a stand-in that sleeps and prints a log, so that phones and not this computer's cores are the limit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from scripted_sweep import LOG, RUNS, script_tool

from harness.devices.adb.server import adb_program
from harness.virtual_phone.processes import PhoneProcesses

MODEL = Path(__file__).parents[1] / "accuracy" / "data" / "pooled-float.tflite"
LIMIT_S = 180
INVOCATIONS = 6
QUICKLY = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "6s",
}
"""A host that is cut off is noticed after the least time that dask takes; by default it is half a minute."""


def until(condition, what="it"):
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come in {LIMIT_S} s"
        time.sleep(0.1)
    return value


class Process:
    """A command that runs beside the test, with what it says in a file."""

    def __init__(self, command, log, environment):
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env={**os.environ, **QUICKLY, **environment},
                cwd=log.parent,
                start_new_session=True,
            )

    @property
    def said(self):
        return self.log.read_text(errors="replace")

    def says(self, text):
        def look():
            assert text in self.said or self.process.poll() is None, f"it ended without saying {text!r}: {self.said}"
            return text in self.said

        until(look, repr(text))
        return self.said

    def wait(self):
        return self.process.wait(LIMIT_S)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)


def harness(*arguments):
    return [sys.executable, "-m", "harness", *arguments]


class Host:
    """A computer with a cache, an adb server and phones of its own; `inside` is what its commands begin with."""

    def __init__(self, name, folder, *, inside=(), sleep_s=1.0):
        self.name, self.folder, self._prefix = name, folder, list(inside)
        folder.mkdir(parents=True)
        self.environment = {"HARNESS_CACHE": str(folder / "cache"), "HARNESS_LEASES": str(folder)}
        register_stand_in(folder / "cache" / "tools", sleep_s)
        self._processes = []

    def run(self, command, name):
        process = Process([*self._prefix, *command], self.folder / f"{name}.log", self.environment)
        self._processes.append(process)
        return process

    def start_phones(self, *names, vendor=None):
        """Start phones that live as long as this process, and return what the adb server calls them."""
        script = Path(__file__).with_name("phones_of_a_host.py")
        phones = self.run([sys.executable, str(script), str(vendor or ""), *names], "phones")
        return phones.says("READY").split("READY")[1].split()

    def hold(self, name):
        """Let every process on a phone wait until it is let go."""
        self._inside(name, "hold").touch()

    def let_one_go(self, name):
        """Let one process of a held phone run."""
        self._inside(name, "one").touch()

    def let_go(self, name):
        """Let all run."""
        self._inside(name, "hold").unlink()

    def _inside(self, name, file):
        folder = self.folder / "cache" / "virtual-phone" / "phones" / name
        return PhoneProcesses(name, folder).inside(f"data/{file}")

    def start_worker(self, scheduler):
        return self.run(harness("lab", "worker", scheduler, "--name", self.name), "worker")

    def stop(self):
        for process in reversed(self._processes):
            if process.process.stdin:
                process.process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                if "phones" in process.log.name:
                    process.process.wait(30)
            process.kill()
        if self._prefix:  # a computer of its own has an adb server of its own, which is nobody's child
            subprocess.run([*self._prefix, adb_program(), "kill-server"], check=False, capture_output=True, timeout=30)


def register_stand_in(folder, sleep_s):
    """Register a tool for virtual phones that sleeps and prints a log, but not while its phone is held."""
    folder.mkdir(parents=True)
    script = folder / "benchmark_model"
    hold = "while [ -e /data/hold ] && ! rm /data/one 2>/dev/null; do sleep 0.1; done"
    script.write_text(f"#!/system/bin/sh\n{hold}\nsleep {sleep_s}\ncat <<'END'\n{LOG.format(runs=RUNS)}END\n")
    tool = script_tool(script, origin="stand-in")
    (folder / "tools.json").write_text(json.dumps([json.loads(tool.model_dump_json())]))


def write_spec(file, *, invocations=INVOCATIONS, **more):
    """Write a spec of one cell a phone, with latency processes alone."""
    settings = {"model": str(MODEL), "recipes": ["as-is"], "delegates": ["cpu"], "reconnect_wait_s": 2.0, **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    measurement = {
        "invocations": invocations,
        "runs": RUNS,
        "accuracy_samples": 0,
        "memory_invocations": 0,
        "op_profile_invocations": 0,
        "init_pairs": 0,
        "warmup_max_s": 0,
        "timeout_s": 300,
    }
    lines += ["[measurement]", *(f"{key} = {value}" for key, value in measurement.items())]
    file.write_text("\n".join(lines) + "\n")
    return file
