"""A running sweep on the screen: a pure function of the devices' last events and the terminal's size."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.progress import DeviceEvent, DeviceStatus, Temperature
from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section
from harness.text import number, pluralize, printable

_BAR_WIDTHS = (10, 30)
"""The narrowest and the widest bar."""
_SEPARATOR = " · "
_ROW_COLUMNS = tuple(
    FittingColumn(heading, worth)
    for heading, worth in {
        "serial": 8,
        "steps": 7,
        "left": 6,
        "doing": 5,
        "latency": 3,
        "interval": 1,
        "heat": 2,
        "counts": 4,
    }.items()
)
"""Of one row; the headings are not drawn."""
_MEASURE = Console(file=io.StringIO())
"""Rich wraps texts on behalf of a console, of which it only asks how wide letters are."""
_STYLES = {
    DeviceEvent.WAITING: "yellow",
    DeviceEvent.COOLING: "yellow",
    DeviceEvent.AWAY: "yellow",
    DeviceEvent.FAILED: "red",
    DeviceEvent.ENDED: "dim",
}


@dataclass(frozen=True)
class Bar:
    """Long work of no device: compressing variants."""

    name: str
    total: int
    done: int = 0
    doing: str = ""


@dataclass(frozen=True)
class LastStatus:
    """What a device reported, and how long ago."""

    status: DeviceStatus
    age_s: float


def live_view(devices: Sequence[LastStatus], bars: Sequence[Bar], *, width: int, height: int) -> RenderableType:
    """Return at most `height` lines of at most `width` columns: one block per device, or one row if that is long."""
    making = [line for bar in bars for line in _bar_lines(bar, width)][:height]
    left = height - len(making)
    blocks = [_block(device, width) for device in devices]
    if sum(map(len, blocks)) > left:
        return Group(*_rows(devices, left), *making)
    return Group(*(line for block in blocks for line in block), *making)


def _block(device: LastStatus, width: int) -> list[RenderableType]:
    """Return a device's lines: who it is and how far, what it does, what was seen."""
    status = device.status
    progress = ", ".join(filter(None, [f"{status.steps_done}/{status.steps}" if status.steps else "", eta(device)]))
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_column(no_wrap=True, justify="right")
    room = width - cell_len(progress) - 1
    names = (f"{printable(status.title)} ({printable(status.serial)})", printable(status.serial))
    name = next((name for name in names if cell_len(name) <= room), names[-1])
    head.add_row(Text(name, style="bold"), Text(progress))
    facts = [text for text in (latency(status), interval(status), heat(status.heat), counts(status)) if text]
    return [
        head,
        *_bar_and_text(status.steps_done, status.steps, doing(device), width, _STYLES.get(status.news, "")),
        *(Text(f"  {line}", style="dim") for line in _flow(facts, width - 2)),
    ]


def _bar_lines(bar: Bar, width: int) -> list[RenderableType]:
    text = f"{printable(bar.name)} {bar.done}/{bar.total}" + (f": {printable(bar.doing)}" if bar.doing else "")
    return _bar_and_text(bar.done, bar.total, text, width, "")


def _bar_and_text(done: int, total: int, text: str, width: int, style: str) -> list[RenderableType]:
    """Return a bar and its text next to it, or below it if that is too long."""
    narrowest, widest = _BAR_WIDTHS
    bar_width = max(narrowest, min(widest, width // 4))
    bar = ProgressBar(total=max(total, 1), completed=done, width=bar_width)
    beside, *below = [text] if bar_width + 1 + cell_len(text) <= width else ["", *wrapped(text, width)]
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=bar_width)
    line.add_column(no_wrap=True)
    line.add_row(bar, Text(beside, style=style))
    return [line, *(Text(more, style=style) for more in below)]


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` columns, broken between words where it can be."""
    return [line.plain.rstrip() for line in Text(text).wrap(_MEASURE, max(width, 1), overflow="fold")]


def _flow(parts: Sequence[str], width: int) -> list[str]:
    """Lay parts out over as few lines as they need."""
    lines: list[str] = []
    for part in itertools.chain.from_iterable(wrapped(part, width) for part in parts):
        if lines and cell_len(lines[-1] + _SEPARATOR + part) <= width:
            lines[-1] += _SEPARATOR + part
        else:
            lines.append(part)
    return lines


def _rows(devices: Sequence[LastStatus], height: int) -> list[RenderableType]:
    """Return one row per device, with the columns that fit; those without a row are counted in the last line."""
    shown = devices if len(devices) <= height else devices[: max(0, height - 1)]
    lines: list[RenderableType] = []
    if shown:
        rows = [FittingRow(_row(device), _STYLES.get(device.status.news, "")) for device in shown]
        lines.append(FittedTable(_ROW_COLUMNS, [Section(rows)], is_plain=True))
    if len(shown) < len(devices) and height > 0:
        news = Counter(_state(device.status) for device in devices[len(shown) :])
        rest = ", ".join(f"{count} {state}" for state, count in news.items())
        lines.append(Text(f"and {len(devices) - len(shown)} more: {rest}", no_wrap=True, overflow="ellipsis"))
    return lines


def _row(device: LastStatus) -> list[str]:
    """Return the texts of `_ROW_COLUMNS`."""
    status = device.status
    steps = f"{status.steps_done}/{status.steps}" if status.steps else ""
    parts = (steps, _short_eta(device), doing(device), latency(status), interval(status), heat(status.heat))
    return [printable(status.serial), *parts, counts(status)]


def _state(status: DeviceStatus) -> str:
    told = (DeviceEvent.WAITING, DeviceEvent.COOLING, DeviceEvent.AWAY, DeviceEvent.ENDED)
    return status.news.value if status.news in told else "running"


_BEFORE_WORK = {DeviceEvent.BEGAN: "getting ready", DeviceEvent.WAITING: "waiting for the remaining variants"}


def doing(device: LastStatus) -> str:
    """Return what a device does now, with a countdown where it is waited for."""
    status = device.status
    if status.news in _BEFORE_WORK:
        return _BEFORE_WORK[status.news]
    if status.news is DeviceEvent.PLANNED:
        return f"{pluralize(status.steps, 'step')} planned"
    if status.news is DeviceEvent.ENDED:
        return "done" if status.steps_done >= status.steps else "ended early"
    if status.news is DeviceEvent.COOLING:
        left_s = max(0.0, (status.wait_left_s or 0.0) - device.age_s)
        return f"cooling, at most {clock(left_s)}: {printable(status.reason)}"
    if status.news is DeviceEvent.AWAY:
        return f"away: {printable(status.reason)}"
    return work(status)


def work(status: DeviceStatus) -> str:
    """Return which process of which cell is, or was last, under way."""
    of = f"/{status.of}" if status.of else ""
    which = f" {status.number}{of}" if status.number else ""
    return f"{printable(status.cell)}: {status.doing.replace('_', ' ')}{which}"


def latency(status: DeviceStatus) -> str:
    """Return the last latency with its cell."""
    if status.latency_us is None:
        return ""
    return f"{printable(status.latency_cell)}: {number(status.latency_us / 1000)} ms"


def interval(status: DeviceStatus) -> str:
    """Return the interval of that cell's median so far."""
    if status.interval_us is None:
        return ""
    low, high = (number(bound / 1000) for bound in status.interval_us)
    return f"95 %: {low} to {high} ms"


def heat(seen: Temperature | None) -> str:
    """Return the hottest sensor and the thermal status, as far as the device tells them."""
    if seen is None:
        return ""
    degrees = f"{printable(seen.sensor).removeprefix('zone:')} {seen.degrees_c:.1f} °C" if seen.degrees_c else ""
    return ", ".join(filter(None, [degrees, "" if seen.thermal_status is None else f"status {seen.thermal_status}"]))


def counts(status: DeviceStatus) -> str:
    """Return what did not go well, counted; empty if all did."""
    said = {"redone": status.redos, "failed": status.failures}
    parts = [f"{count} {what}" for what, count in said.items() if count]
    return ", ".join(parts + ([f"{pluralize(status.abandoned, 'cell')} abandoned"] if status.abandoned else []))


def eta(device: LastStatus) -> str:
    """Return how much time is left in words; empty if nothing was timed yet, or nothing is left."""
    status = device.status
    if status.left_s is None or status.news is DeviceEvent.ENDED:
        return ""
    left_s = max(0.0, status.left_s - device.age_s)
    if status.is_lower_bound:
        return f"at least {clock(left_s)} left" if round(left_s) else ""  # no less than nothing is no news
    return f"{'at most ' if status.is_upper_bound else ''}{clock(left_s)} left"


def _short_eta(device: LastStatus) -> str:
    return eta(device).replace("at least ", ">").replace("at most ", "<").removesuffix(" left")


def clock(seconds: float) -> str:
    """Return `1:05` or `2:03:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain_line(status: DeviceStatus, before: DeviceStatus | None) -> str:
    """Return the line that a status is worth in a log; empty for none, such as a wait that goes on."""
    told = LastStatus(status, 0.0)
    match status.news:
        case DeviceEvent.BEGAN | DeviceEvent.WAITING | DeviceEvent.PLANNED | DeviceEvent.ENDED:
            said = doing(told)
        case DeviceEvent.COOLING:
            said = "" if before and before.news is DeviceEvent.COOLING else doing(told)
        case DeviceEvent.FAILED:
            said = f"{work(status)}: failed: {printable(status.reason)}"
        case DeviceEvent.STEP:
            is_new = before is not None and status.latency_us is not before.latency_us
            seen = [latency(status), interval(status)] if is_new else [work(status)]
            parts = [*seen, heat(status.heat), counts(status), eta(told)]
            said = f"step {status.steps_done}/{status.steps}: " + ", ".join(filter(None, parts))
        case _:
            return ""
    return f"{printable(status.serial)}: {said}" if said else ""
