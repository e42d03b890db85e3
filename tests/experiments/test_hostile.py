"""The tries of `hostile.py`: each of the list is there, and those that take seconds hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("hostile.py")
IN_A_MINUTE = "2,3,6,14,15,17"
"""Of the phone; each takes about ten seconds on an idle computer."""


def run(*arguments, timeout_s=900):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_there_are_63_tries():
    numbers = [int(line.split()[0]) for line in run("--list").stdout.splitlines()]
    assert numbers == list(range(1, 64))


@pytest.mark.virtual_phone
def test_promise_h24_holds_against_what_is_tried(phone_ready, adb):
    finished = run("--only", IN_A_MINUTE)
    figures = json.loads(finished.stdout.splitlines()[-1])["figures"]
    assert figures["failed"] == [], finished.stderr
    assert figures["held"] == len(IN_A_MINUTE.split(","))
