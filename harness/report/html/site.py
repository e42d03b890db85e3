"""A folder of pages: one report per sweep, and a first page that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness.analysis.decision import decide
from harness.analysis.shipping.choice import ShipLimits
from harness.analysis.sweep_data import SweepData, read_sweep_data
from harness.errors import UsageError
from harness.report.html.page import ReportOptions, render_index, render_report
from harness.store.reader import StoreReader
from harness.text import printable

REPORTS = "reports"
"""Where the reports lie below the first page."""


@dataclass(frozen=True)
class WrittenFile:
    """One file that was written."""

    path: Path
    size_bytes: int
    how: str = ""
    """If it replaced a file or needed a new folder."""


def write_page(path: Path, text: str) -> WrittenFile:
    """Write one page. Raises `UsageError` if the place does not take it."""
    how = "replaced the earlier one" if path.exists() else "" if path.parent.is_dir() else "in a new folder"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name another place.") from error
    return WrittenFile(path, path.stat().st_size, how)


def write_site(store: StoreReader, folder: Path, limits: ShipLimits) -> list[WrittenFile]:
    """Write `index.html` and a report for each sweep of the store; the first page comes first in the list."""
    entries, reports = [], []
    for record in store.sweeps():
        data = read_sweep_data(store, record)
        name = f"{quote(record.id, safe='')}.html"
        reports.append(write_page(folder / REPORTS / name, render_report([data], ReportOptions(limits))))
        entries.append(_entry(data, f"{REPORTS}/{quote(name)}", limits))
    return [write_page(folder / "index.html", render_index(entries)), *reports]


def _entry(data: SweepData, link: str, limits: ShipLimits) -> Mapping[str, object]:
    decisions = [decision.headline for decision in decide(data, limits)]
    return {
        "link": link,
        "identity": data.record.id,
        "started": data.record.started_at.strftime("%Y-%m-%d %H:%M"),
        "model": printable(data.record.spec.get("model", "-")),
        "devices": ", ".join(printable(row.title) for row in data.devices),
        "rows": len(data.rows),
        "failed": sum(row.failure_class is not None for row in data.rows),
        "decisions": decisions or (["A/A sweep"] if data.record.is_noise else ["Nothing was measured."]),
    }
