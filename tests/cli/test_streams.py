"""Who listens never decides: a stderr that is full or gone ends nothing, a stdout that is full is an error."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from harness.cli.streams import guard_streams
from harness.cli.output import console, error_console
from harness.errors import HarnessError
guard_streams()
for _ in range(2000):
    error_console().print("progress " * 10)
    print("more", file=sys.stderr)
try:
    console().print("result")
except HarnessError as error:
    sys.exit(int(error.exit_code) + 40)
"""


def run(redirected, **streams):
    command = f'{sys.executable} -c "$PROGRAM" {redirected}'
    return subprocess.run(
        ["sh", "-c", command], env={"PROGRAM": PROGRAM}, text=True, timeout=120, check=False, **streams
    )


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2>&1 >/dev/null | head -n 1; true"])
def test_progress_that_nobody_takes_ends_nothing(stderr):
    finished = run(stderr, stdout=subprocess.PIPE)
    assert finished.returncode == 0
    assert "result" in finished.stdout or "head" in stderr


def test_a_full_stdout_is_one_error():
    finished = run(">/dev/full", stderr=subprocess.PIPE)
    assert finished.returncode == 41
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_json_for_a_full_stdout_is_one_error(unbuffered):
    """Unbuffered, even the empty text fails by which typer tries a stream."""
    finished = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m harness recipes --json >/dev/full"],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        text=True,
        timeout=120,
        check=False,
        stderr=subprocess.PIPE,
    )
    assert finished.returncode == 1
    assert "Cannot write to stdout: No space left on device." in finished.stderr
