"""The program in a terminal, in a dumb one, into a pipe and quiet: what it draws, and that stdout stays clean."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from harness.cli.progress import LiveWatcher, PlainWatcher, watch
from harness.errors import UsageError

SMALL_MODEL = Path(__file__).parents[1] / "accuracy" / "data" / "pooled-float.tflite"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BENCH = ("bench", str(SMALL_MODEL), "--device", "host", "--delegate", "cpu", "--json")
CURSOR_UP = "\x1b[1A"


def run_in_terminal(folder, *arguments, columns=100, lines=30, **environment):
    """Run the program with stderr on a terminal; return its exit code, stdout and all that went to the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in hidden} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = []
    reader = threading.Thread(target=_read_all, args=(ours, drawn))
    reader.start()
    stdout, _ = process.communicate(timeout=120)
    reader.join()
    os.close(ours)
    return process.returncode, stdout.decode(), b"".join(drawn).decode()


def _read_all(terminal, drawn):
    try:
        while block := os.read(terminal, 65536):
            drawn.append(block)
    except OSError:  # what Linux says when the program has closed its side
        pass


@pytest.mark.official_tool
def test_a_terminal_shows_the_device_live_and_stdout_has_the_result_alone(tmp_path, registered_tools):
    code, stdout, drawn = run_in_terminal(tmp_path, *BENCH, columns=60)
    assert code == 0, drawn
    assert json.loads(stdout)["rows"][0]["invocations_ok"] == 5
    assert CURSOR_UP in drawn
    text = ESCAPE.sub("", drawn)
    assert re.search(r"as-is cpu: (init|warm up|accuracy|latency|memory|op profile)", text)
    assert re.search(r"(\d+)/\1\b.*done.*as-is cpu: \S+ ms.*95 %: \S+ to \S+ ms", text, re.DOTALL)  # the last frame
    view = [line for line in re.split(r"[\r\n]+", text) if "━" in line or "left" in line]
    assert max(map(len, view)) <= 60
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again


@pytest.mark.official_tool
def test_a_dumb_terminal_gets_one_line_an_event(tmp_path, registered_tools):
    code, stdout, drawn = run_in_terminal(tmp_path, *BENCH, TERM="dumb")
    assert code == 0, drawn
    assert len(json.loads(stdout)["rows"]) == 1
    assert "\x1b" not in drawn
    steps = re.findall(r"^host: step (\d+)/\d+: ", drawn, re.MULTILINE)
    assert [int(step) for step in steps] == list(range(1, len(steps) + 1))
    assert "host: done" in drawn


@pytest.mark.official_tool
def test_a_pipe_gets_plain_lines_whatever_colours_are_forced(harness_cli, registered_tools):
    done = harness_cli(*BENCH, FORCE_COLOR="1")
    assert "host: step 1/" in done.stderr
    assert "\x1b[?25l" not in done.stderr
    assert CURSOR_UP not in done.stderr


@pytest.mark.official_tool
def test_quiet_says_nothing_but_the_result(harness_cli, registered_tools):
    done = harness_cli(*BENCH[:-1], "--quiet")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "as-is" in done.stdout


@pytest.mark.official_tool
def test_quiet_still_says_what_went_wrong(harness_cli, registered_tools, adb):
    done = harness_cli("bench", str(SMALL_MODEL), "--device", "no-such-phone", "--quiet")
    assert done.returncode == 3
    assert "no-such-phone" in done.stderr


def test_plain_is_plain_in_a_terminal_too_and_excludes_quiet(monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(watch(), LiveWatcher)
        assert isinstance(watch(plain=True), PlainWatcher)
        with pytest.raises(UsageError, match="Cannot combine --quiet and --plain"):
            watch(plain=True, quiet=True)
    os.close(ours)
