"""The view of a running sweep: it fits every terminal, and says of each phone what a watcher wants to know."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from harness.progress import DeviceEvent, DeviceStatus, Temperature
from harness.report.terminal.live import Bar, LastStatus, clock, live_view, plain_line, wrapped

RUNNING = DeviceStatus(
    "192.168.17.41:5555",
    "Google Pixel 8",
    DeviceEvent.RUNNING,
    cell="prune50-int8 nnapi:google-edgetpu 4 threads",
    doing="op_profile",
    number=2,
    of=5,
    heat=Temperature("zone:VIRTUAL-SKIN", 36.44, 0),
    latency_us=1234.5,
    latency_cell="int8 gpu",
    interval_us=(1200.0, 1300.0),
    steps_done=14,
    steps=60,
    left_s=3725.0,
    redos=1,
    failures=2,
    abandoned=1,
)
COOLING = replace(
    RUNNING,
    serial="R58M12ABCDE",
    title="samsung SM-G960U",
    news=DeviceEvent.COOLING,
    wait_left_s=280.0,
    reason="battery at 44.0 °C, limit 40 °C",
)


def drawn(devices, bars=(), width=100, height=30, age_s=0.0):
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None, force_terminal=True)
    console.print(live_view([LastStatus(status, age_s) for status in devices], bars, width=width, height=height))
    return console.file.getvalue()


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("width", [40, 57, 80, 120, 200])
@pytest.mark.parametrize("height", [2, 5, 9, 23, 60])
def test_it_never_leaves_the_terminal(width, height):
    devices = [RUNNING, COOLING, *(replace(RUNNING, serial=f"10.0.0.{number}:5555") for number in range(9))]
    lines = drawn(devices, [Bar("int8: epoch", 10, 3, "loss 0.31")], width, height).splitlines()
    assert 0 < len(lines) <= height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_block_says_everything_at_every_width(width):
    text = words(drawn([RUNNING], width=width))
    told = [
        "192.168.17.41:5555",
        "14/60",
        "1:02:05 left",
        "prune50-int8 nnapi:google-edgetpu 4 threads: op profile 2/5",
        "int8 gpu: 1.23 ms",
        "95 %: 1.20 to 1.30 ms",
        "VIRTUAL-SKIN 36.4 °C, status 0",
        "1 redone, 2 failed, 1 cell abandoned",
    ]
    assert [part for part in told if part not in text] == []


def test_a_wait_for_heat_counts_down_between_two_looks():
    text = words(drawn([COOLING], age_s=5.0))
    assert "cooling, at most 4:35: battery at 44.0 °C, limit 40 °C" in text
    assert "1:02:00 left" in text
    assert "cooling, at most 0:00" in words(drawn([COOLING], age_s=500.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_upper_bound": True}, "at most 1:02:05 left"),
        ({"is_lower_bound": True, "is_upper_bound": True}, "at least 1:02:05 left"),
    ],
)
def test_what_is_not_known_exactly_is_called_a_bound(changes, said):
    assert said in words(drawn([replace(RUNNING, **changes)]))


@pytest.mark.parametrize("changes", [{"left_s": None}, {"left_s": 0.2, "is_lower_bound": True}])
def test_no_time_is_told_where_none_is_known(changes):
    assert "left" not in drawn([replace(RUNNING, **changes)])


def test_many_phones_get_a_row_each_and_the_rest_is_counted():
    devices = [replace(RUNNING, serial=f"S{number}") for number in range(5)]
    devices += [replace(COOLING, serial="S5"), replace(RUNNING, serial="S6", news=DeviceEvent.ENDED)]
    rows = drawn(devices, width=120, height=5).splitlines()
    assert [row.split()[0] for row in rows] == ["S0", "S1", "S2", "S3", "and"]
    assert rows[-1] == "and 3 more: 1 running, 1 cooling, 1 ended"
    assert len(drawn(devices, width=120, height=7).splitlines()) == 7


def test_a_narrow_row_keeps_who_and_how_far():
    row = drawn([RUNNING] * 2, width=40, height=2).splitlines()[0]
    assert row.split() == ["192.168.17.41:5555", "14/60", "1:02:05"]


def test_a_phone_that_tells_nothing_has_nothing_made_up():
    text = drawn([DeviceStatus("host", "host", DeviceEvent.RUNNING, cell="int8 cpu", doing="latency", number=1, of=5)])
    assert "°C" not in text
    assert "ms" not in text
    assert "left" not in text


def test_hostile_names_stay_text():
    status = replace(RUNNING, title="[red]x[/]\x1b[2J\n", serial="S\x1b[1m1")
    text = drawn([status], width=120)
    assert "[red]x[/]" in text
    assert "\x1b[2J" not in text
    assert "\x1b[1m" not in text
    assert "\x1b" not in plain_line(status, None)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3599.7, "1:00:00"), (90061, "25:01:01")])
def test_times_are_written_as_a_clock_shows_them(seconds, text):
    assert clock(seconds) == text


def test_text_is_wrapped_between_words_and_long_words_are_broken():
    assert wrapped("one two three", 7) == ["one two", "three"]
    assert wrapped("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrapped("電話電話", 4) == ["電話", "電話"]


def test_plain_lines_say_each_event_once():
    stepped = replace(RUNNING, news=DeviceEvent.STEP, latency_us=2000.0, steps_done=15)
    told = [
        RUNNING,
        replace(COOLING, serial="S"),
        replace(COOLING, serial="S", wait_left_s=200.0),
        stepped,
        replace(stepped, news=DeviceEvent.FAILED, reason="crashed"),
        replace(stepped, news=DeviceEvent.ENDED),
    ]
    lines = [plain_line(status, before) for status, before in zip(told, [None, *told], strict=False)]
    assert lines == [
        "",
        "S: cooling, at most 4:40: battery at 44.0 °C, limit 40 °C",
        "",
        "192.168.17.41:5555: step 15/60: int8 gpu: 2.00 ms, 95 %: 1.20 to 1.30 ms, VIRTUAL-SKIN 36.4 °C, status 0, "
        "1 redone, 2 failed, 1 cell abandoned, 1:02:05 left",
        "192.168.17.41:5555: prune50-int8 nnapi:google-edgetpu 4 threads: op profile 2/5: failed: crashed",
        "192.168.17.41:5555: ended early",
    ]
