"""The parts of a night: its clock, its lock, room on the disk, what comes first, and whom it tells."""

import http.server
import json
import math
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_examples import cell
from stored_nights import FIRST_NIGHT, add_night, processes
from stored_tables import frame

from harness.analysis.history.nights import CellName, read_nights
from harness.errors import MissingPrerequisiteError, UsageError
from harness.nightly.night import next_time, night_lock, require_space
from harness.nightly.webhook import post, require_webhook
from harness.store.store import Store
from harness.sweep.time_budget import (
    BETWEEN_PROCESSES_S,
    MARGIN,
    groups_in_time,
    most_informative_first,
    seconds_of_cells,
    uncertainty,
)

# ---- until ----


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ((2026, 11, 24, 1, 0), "06:00", (2026, 11, 24, 6, 0)),
        ((2026, 11, 24, 22, 30), "6:00", (2026, 11, 25, 6, 0)),
        ((2026, 11, 24, 6, 0), "06:00", (2026, 11, 25, 6, 0)),
        ((2026, 12, 31, 23, 59), "00:00", (2027, 1, 1, 0, 0)),
    ],
)
def test_until_is_the_next_time_that_clocks_show_so(now, text, expected):
    assert next_time(text, datetime(*now, tzinfo=UTC)) == datetime(*expected, tzinfo=UTC)


def test_until_follows_the_clock_on_the_wall_through_a_change_of_time():
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2027, 3, 28, 1, 0, tzinfo=berlin)
    assert next_time("06:00", before).timestamp() - before.timestamp() == 4 * 3600


def test_until_without_a_zone_is_the_computers_own_time():
    moment = next_time("06:00", datetime(2026, 11, 24, 1, 0))
    assert moment.tzinfo is not None
    assert (moment.hour, moment.minute) == (6, 0)


@pytest.mark.parametrize("text", ["", "6", "24:00", "06:60", "06:00:00", "six", "-1:00"])
def test_until_must_be_a_time_of_day(text):
    with pytest.raises(UsageError, match="--until"):
        next_time(text, datetime.now(UTC))


# ---- lock ----

HOLD = "import sys, time\nfrom pathlib import Path\nfrom harness.nightly.night import night_lock\n"
HOLD += "with night_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_two_nights_never_overlap_and_a_killed_one_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(MissingPrerequisiteError, match=f"process {other.pid} on .* since 20"), night_lock(tmp_path):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with night_lock(tmp_path):
        assert json.loads((tmp_path / "nightly.holder.json").read_text())["process"] == os.getpid()
    with night_lock(tmp_path):
        pass


def test_a_second_night_from_the_command_line_says_who_holds_the_first(harness_cli, tmp_path):
    spec = tmp_path / "lab.toml"
    spec.write_text('devices = ["host"]\n')
    with night_lock(tmp_path / "results"):
        finished = harness_cli("nightly", str(spec), "--results", str(tmp_path / "results"))
    assert finished.returncode == 3
    assert f"Another night is running in {tmp_path / 'results'}: process {os.getpid()} on" in finished.stderr


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"Cannot write to the results folder .*: "),
        night_lock(tmp_path / "file" / "results"),
    ):
        pass


# ---- disk ----


def test_a_night_without_room_is_not_begun(tmp_path):
    require_space(tmp_path, 2.0, free_bytes=lambda _: 2_000_000_000)
    with pytest.raises(MissingPrerequisiteError, match=r"Only 1\.9 GB are free"):
        require_space(tmp_path, 2.0, free_bytes=lambda _: 1_900_000_000)


def test_room_is_asked_for_on_the_command_line(harness_cli, tmp_path):
    spec = tmp_path / "lab.toml"
    spec.write_text('devices = ["host"]\n')
    finished = harness_cli("nightly", str(spec), "--least-free-gb", "1000000000")
    assert finished.returncode == 3
    assert "a night needs 1e+09 GB" in finished.stderr


# ---- what comes first ----

NOW = FIRST_NIGHT + timedelta(days=10)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "results") as store:
        yield store


def test_what_was_never_measured_like_this_comes_first_then_the_oldest_then_the_wildest(store):
    generator = np.random.default_rng(2)
    for night in range(9):
        levels = {"changed": 0.01, "wild": 0.20, "quiet": 0.01}
        if night < 4:
            levels["old"] = 0.01
        add_night(store, night, {name: processes(generator, 1000, noise=noise) for name, noise in levels.items()})
    known = {one.name: one for one in read_nights(store)}
    cells = [cell("quiet"), cell("wild"), cell("old"), cell("changed", mode={"runs": 99}), cell("new")]
    ordered = [one.variant_name for one in most_informative_first(cells, known, NOW)]
    assert ordered[:2] == ["changed", "new"]
    assert set(ordered[2:4]) == {"wild", "old"}
    assert ordered[4] == "quiet"


def test_nothing_known_is_infinitely_uncertain_and_a_quiet_cell_comes_back_in_time(store):
    generator = np.random.default_rng(2)
    assert uncertainty([], NOW) == math.inf
    for night in range(3):
        add_night(store, night, {"int8": processes(generator, 1000)})
    (known,) = read_nights(store)
    soon, later = (uncertainty(known.good, NOW + timedelta(days=days)) for days in (0, 30))
    assert 0 < soon < later < math.inf


costs = st.lists(st.floats(0.1, 1000), min_size=1, max_size=12)


@given(costs, st.floats(0, 5000))
def test_groups_keep_order_and_lose_nothing(seconds, time_s):
    cells = [cell(f"v{number}") for number in range(len(seconds))]
    cost = dict(zip((one.key for one in cells), seconds, strict=True))
    groups = groups_in_time(cells, lambda one: cost[one.key], time_s)
    assert [one for group in groups for one in group] == cells
    assert all(len(group) == 1 for group in groups[1:])
    if len(groups[0]) > 1:
        assert sum(cost[one.key] for one in groups[0]) <= time_s
    if sum(seconds) <= time_s:
        assert len(groups) == 1


def test_a_device_without_cells_has_no_groups():
    assert groups_in_time([], lambda _: 1.0, 10.0) == []


def test_a_cell_costs_what_its_last_good_night_took(store):
    add_night(store, 0, {"int8": [1000.0] * 5})
    add_night(store, 1, {"int8": [1000.0] * 7})
    rows = frame(store.invocations(store.find_sweep("latest").id))
    accuracy = frame(store.accuracies(store.find_sweep("latest").id))
    processes_s = rows["wall_s"].sum() + accuracy["wall_s"].sum()
    expected = MARGIN * (processes_s + BETWEEN_PROCESSES_S * (len(rows) + len(accuracy)))
    seconds = seconds_of_cells(store, read_nights(store))
    assert seconds == {CellName("R58M", "int8", "cpu", 1): pytest.approx(expected)}


# ---- webhook ----

SECRET = "T0K3N"


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
        if self.server.silent:
            self.server.released.wait(30)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def do_GET(self):
        self.server.received.append((self.path, None, None))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.silent, server.status, server.released = [], False, 200, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/hooks/{SECRET}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_the_summary(receiver):
    assert post(receiver.url, {"text": "well"}) == "The webhook on 127.0.0.1 accepted the report (200)."
    assert receiver.received == [(f"/hooks/{SECRET}", "application/json", {"text": "well"})]


def test_a_webhook_that_refuses_or_is_not_there_is_one_sentence(receiver):
    receiver.status = 500
    assert post(receiver.url, {}) == "The webhook on 127.0.0.1 refused (500)."
    said = post(f"http://127.0.0.1:1/{SECRET}", {})
    assert said == "The webhook on 127.0.0.1 could not be reached (ConnectionRefusedError)."


def test_a_webhook_that_redirects_got_nothing(receiver):
    receiver.status = 302
    said = post(receiver.url, {"text": "well"})
    assert said == "The webhook on 127.0.0.1 redirected the report instead of accepting it (302)."
    assert len(receiver.received) == 1


def test_a_webhook_that_says_nothing_is_left_behind(receiver):
    receiver.silent = True
    assert post(receiver.url, {}, timeout_s=0.3) == "The webhook on 127.0.0.1 did not answer within 0.3 s."


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{SECRET}",
        f"file:///{SECRET}",
        SECRET,
        f"http:///{SECRET}",
        "http://[x",
        f"http://me:{SECRET}@host/",
        f"http://host/{SECRET}\r\nX: y",
        f"http://host/a b{SECRET}",
        f"http://host/é{SECRET}",
        f"http://host:99999/{SECRET}",
    ],
)
def test_what_cannot_be_posted_to_is_refused_without_being_repeated(url):
    with pytest.raises(UsageError) as raised:
        require_webhook(url)
    assert SECRET not in f"{raised.value} {raised.value.advice}"


def test_a_night_that_cannot_be_is_told_too_and_prints_no_secret(harness_cli, tmp_path, receiver):
    spec = tmp_path / "lab.toml"
    spec.write_text('devices = ["host"]\n')
    finished = harness_cli("nightly", str(spec), "--least-free-gb", "1000000000", HARNESS_WEBHOOK=receiver.url)
    assert finished.returncode == 3
    ((_, _, payload),) = receiver.received
    assert payload["text"].startswith("No night: Only ")
    assert payload["exit_code"] == 3
    assert SECRET not in finished.stdout + finished.stderr
