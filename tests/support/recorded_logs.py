"""Recorded logs: 50 real ones of phones and boards with what was read off them, and 285 situations of the tool."""

import json
import re
import tarfile
from functools import cache
from pathlib import Path

from harness.benchmark.invocation import InvocationRequest
from harness.devices.device import CommandResult

DATA = Path(__file__).parents[1] / "benchmark" / "data"


@cache
def real_logs():
    """Return {id: (log bytes, facts)} of the real logs."""
    files = _read("real-logs.tar.xz")
    return {
        name.removesuffix(".json"): (files[name.replace(".json", ".txt")], json.loads(content))
        for name, content in files.items()
        if name.endswith(".json")
    }


@cache
def situations():
    """Return {name: {"cmd" | "out" | "err" | "rc": text}} of the tool's situations."""
    found = {}
    for name, content in _read("tool-logs.tar.xz").items():
        stem, kind = name.rsplit(".", 1)
        found.setdefault(stem, {"cmd": "", "out": "", "err": "", "rc": "0"})[kind] = content.decode(errors="replace")
    return found


def as_result(situation):
    """Return a situation as the result of a command; exit codes above 128 are a shell's word for a signal."""
    code = int(situation["rc"].strip() or 0)
    signal = code - 128 if code > 128 else None
    return CommandResult(None if signal else code, situation["out"], situation["err"], 1.0, signal=signal)


def as_request(situation):
    """Return what a situation's command line asked for; the count is the one that the log tells."""
    command = situation["cmd"]
    delegate = "cpu"
    for flag, name in (("use_gpu=true", "gpu"), ("use_nnapi=true", "nnapi"), ("use_xnnpack=false", "cpu-builtin")):
        if flag in command:
            delegate = name
            break
    measured = re.search(r"count=(\d+)", situation["out"].rpartition("Running benchmark")[2])
    return InvocationRequest("model.tflite", delegate, runs=int(measured[1]) if measured else 50)


def _read(archive):
    with tarfile.open(DATA / archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
