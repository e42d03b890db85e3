"""Sweeps as trials of TensorBoard's HParams dashboard: one trial a row of the summary. Needs the extra `tensorboard`.

The records are written with TensorBoard's own classes, but without its SummaryWriter, which would load TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.result_row import COLUMNS
from harness.errors import UsageError
from harness.export.trackers import SETTINGS, TrackedRow, tracked_rows
from harness.store.backend import safe_name

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "events.out.tfevents.harness"
"""The same each time, so that an export that is made again replaces the last."""


def export_to_tensorboard(summary: pd.DataFrame, started_at: Mapping[str, datetime], folder: Path) -> None:
    """Write `FOLDER/SWEEP/ROW/` for each row, and the columns' descriptions beside them.

    Raises `UsageError` without TensorBoard, or where the folder cannot be written.
    """
    try:
        from tensorboard.plugins.hparams import summary_v2 as hparams
    except ModuleNotFoundError as error:
        raise UsageError(
            "TensorBoard is not installed.", "Install the extra: python -m pip install 'harness[tensorboard]'."
        ) from error
    rows = tracked_rows(summary)
    figures = sorted({name for row in rows for name in row.figures})
    about = hparams.hparams_config_pb(
        hparams=[hparams.HParam(name, description=COLUMNS[name][1]) for name in SETTINGS],
        metrics=[hparams.Metric(name, description=COLUMNS[name][1]) for name in figures],
    )
    first = min(started_at.values(), default=None)
    try:
        if first:
            _write(folder, first, [(about, 0)])
        for row in rows:
            moment = started_at[row.sweep_id]
            begun = hparams.hparams_pb(dict(row.settings), trial_id=row.name, start_time_secs=moment.timestamp())
            _write(folder / safe_name(row.sweep_id) / safe_name(row.name), moment, [(begun, 0), *_scalars(row)])
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}.", "Name another folder: -o.") from error


def _scalars(row: TrackedRow) -> Iterable[tuple[Any, int]]:
    """Return each figure as a summary with its step."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    points = [(name, value, 0) for name, value in row.figures.items()]
    points += [(name, value, step) for name, curve in row.curves.items() for step, value in enumerate(curve)]
    for name, value, step in points:
        yield Summary(value=[Summary.Value(tag=name, simple_value=value)]), step


def _write(folder: Path, moment: datetime, summaries: Iterable[tuple[Any, int]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE_NAME).open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=moment.timestamp(), file_version="brain.Event:2").SerializeToString())
        for summary, step in summaries:
            writer.write(Event(wall_time=moment.timestamp(), step=step, summary=summary).SerializeToString())
