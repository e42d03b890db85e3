"""Logs are silent by default, complete on request, and free of secrets."""

import logging
import subprocess
import sys

import pytest

from harness.log_setup import LOG_NAME, hide_in_logs, log_to_folder
from harness.progress import DeviceEvent, DeviceStatus, LoggingObserver, SilentObserver

LOG = logging.getLogger("harness.test")
WEBHOOK = "https://hooks.example/T01/s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://me:s3cr3t@lab/results",
        "postgresql://lab/results?user=me&password=s3cr3t",
        "posting to https://hooks.example/T01/s3cr3t failed",
        "token s3cr3t-token refused",
    ],
)
def test_no_secret_reaches_the_log_of_a_sweep(tmp_path, monkeypatch, text):
    monkeypatch.setenv("HARNESS_WEBHOOK", WEBHOOK)
    monkeypatch.setenv("HARNESS_LAB_TOKEN", "s3cr3t-token")
    with log_to_folder(tmp_path):
        LOG.debug("%s", text)
        try:
            raise ValueError(text)
        except ValueError:
            LOG.exception("failed")
    written = (tmp_path / LOG_NAME).read_text()
    assert "s3cr3t" not in written
    assert written.count("[hidden]") >= 2


def test_a_webhook_from_the_command_line_is_hidden(tmp_path):
    hide_in_logs("https://other.example/abc123")
    with log_to_folder(tmp_path):
        LOG.info("to https://other.example/abc123")
    assert "abc123" not in (tmp_path / LOG_NAME).read_text()


def test_a_sweep_logs_decisions_with_the_serial_in_front(tmp_path):
    observer = LoggingObserver(SilentObserver())
    with log_to_folder(tmp_path):
        observer.note("R58M: retrying")
        for _ in range(2):
            observer.show(DeviceStatus("R58M", "phone", DeviceEvent.COOLING, reason="too hot"))
    lines = (tmp_path / LOG_NAME).read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("INFO R58M: retrying")
    assert lines[1].endswith("INFO R58M: cooling  too hot")


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    with log_to_folder(tmp_path / "file"):
        LOG.info("still runs")


def test_harness_is_silent_until_asked(tmp_path):
    program = "import harness, logging; logging.getLogger('harness.x').error('loud')"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=tmp_path)
    assert (finished.stdout, finished.stderr) == (b"", b"")


def test_v_logs_to_stderr(harness_cli):
    finished = harness_cli("-v", "results", "list", "--results", "postgresql+psycopg://me:s3cr3t@localhost:1/x")
    assert "INFO opening store" in finished.stderr
    assert "s3cr3t" not in finished.stderr
