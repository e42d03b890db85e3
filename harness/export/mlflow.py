"""Log sweeps to MLflow, one run per row of the summary. Needs the extra `mlflow`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.result_row import COLUMNS, LISTS_OF_NUMBERS, kind_of
from harness.errors import UsageError
from harness.export.text_formats import to_rows

if TYPE_CHECKING:
    import pandas as pd

MlflowClient = Any
"""MLflow is optional, so its types are unknown here."""
EXPERIMENT = "harness"
_LONGEST_TEXT = 5000
"""Characters of a tag; MLflow refuses more than 8000 bytes or cuts them silently."""
_SWEEP, _ROW = "harness.sweep_id", "harness.row"
SETTINGS = ("device", "serial", "profile", "variant", "delegate_requested", "threads", "core_mask")
"""Columns that are parameters of a run."""
CURVES = tuple(LISTS_OF_NUMBERS)
_NO_FIGURES = frozenset({"threads", "rank"})
"""Whole numbers that are settings or places: MLflow would draw a chart of them."""


@dataclass(frozen=True)
class TrackedRow:
    """One row of a summary."""

    sweep_id: str
    name: str
    """Unique within the sweep."""
    settings: Mapping[str, str | int]
    figures: Mapping[str, float]
    """Finite numbers by column."""
    curves: Mapping[str, list[float]]
    facts: Mapping[str, Any]
    """All other columns that have a value, as JSON values."""


def export_to_mlflow(summary: pd.DataFrame, started_at: Mapping[str, datetime], place: str | None) -> str:
    """Log each row as a run that started with its sweep, and return the tracking URI.

    `place` is a tracking URI or an SQLite file; None leaves the choice to MLflow (`$MLFLOW_TRACKING_URI`). Rows that
    were logged before are replaced. Raises `UsageError` without MLflow, or if it cannot log there.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise UsageError(
            "MLflow is not installed.", "Install the extra: python -m pip install 'harness[mlflow]'."
        ) from error
    rows = _tracked_rows(summary)
    uri = _uri(place) or mlflow.get_tracking_uri()
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = _experiment_id(client)
        before = _logged_before(client, experiment, set(started_at))
        for row in rows:
            _log(client, experiment, row, started_at[row.sweep_id])
        for run_id in [before[row.sweep_id, row.name] for row in rows if (row.sweep_id, row.name) in before]:
            client.delete_run(run_id)
    except MlflowException as error:
        raise UsageError(f"MLflow cannot log to {uri}: {error.message}", "Name another tracking URI: -o.") from error
    return str(uri)


def _uri(place: str | None) -> str | None:
    if place is None or "://" in place:
        return place
    return f"sqlite:///{Path(place).resolve()}"


def _experiment_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return str(experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT))


def _logged_before(client: MlflowClient, experiment: str, sweep_ids: set[str]) -> dict[tuple[str, str], str]:
    """Return the ids of runs that hold rows of these sweeps, by sweep and row."""
    found: dict[tuple[str, str], str] = {}
    token = None
    while True:
        page = client.search_runs([experiment], page_token=token)
        for run in page:
            tags = run.data.tags
            if tags.get(_SWEEP) in sweep_ids and _ROW in tags:
                found[tags[_SWEEP], tags[_ROW]] = run.info.run_id
        token = page.token
        if not token:
            return found


def _log(client: MlflowClient, experiment: str, row: TrackedRow, started_at: datetime) -> None:
    from mlflow.entities import Metric, Param, RunTag

    moment = int(started_at.timestamp() * 1000)
    tags = {_SWEEP: row.sweep_id, _ROW: row.name} | {name: _text(value) for name, value in row.facts.items()}
    run = client.create_run(experiment, start_time=moment, run_name=row.name)
    metrics = [Metric(name, value, moment, 0) for name, value in row.figures.items()]
    metrics += [
        Metric(name, value, moment, step) for name, curve in row.curves.items() for step, value in enumerate(curve)
    ]
    client.log_batch(
        run.info.run_id,
        params=[Param(name, _text(value)) for name, value in row.settings.items()],
        tags=[RunTag(name, text) for name, text in tags.items()],
    )
    for start in range(0, len(metrics), 1000):  # MLflow's limit of one batch
        client.log_batch(run.info.run_id, metrics=metrics[start : start + 1000])
    client.set_terminated(run.info.run_id, "FAILED" if row.facts.get("verdict") == "failed" else "FINISHED")


def _text(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:_LONGEST_TEXT]


def _tracked_rows(summary: pd.DataFrame) -> list[TrackedRow]:
    """Return the rows. Raises `UsageError` if the table is not a summary."""
    if list(summary.columns) != list(COLUMNS):
        raise UsageError("MLflow takes whole rows of a summary.", "Leave out --rows and --columns.")
    return [_tracked(row) for row in to_rows(summary)]


def _tracked(row: Mapping[str, Any]) -> TrackedRow:
    known = {name: value for name, value in row.items() if value is not None}
    figures = {
        name: float(value)
        for name, value in known.items()
        if kind_of(name) in ("Int64", "float64") and name not in _NO_FIGURES
    }
    settings = {name: known[name] for name in SETTINGS if name in known}
    curves = {name: known[name] for name in CURVES if known.get(name)}
    others = known.keys() - figures.keys() - settings.keys() - curves.keys()
    name = " ".join(str(settings[part]) for part in ("variant", "delegate_requested", "serial") if part in settings)
    return TrackedRow(
        row["sweep_id"],
        f"{name} {known.get('cell_key', 'failed')}",
        settings,
        figures,
        curves,
        {name: known[name] for name in sorted(others)},
    )
