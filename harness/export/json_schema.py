"""JSON Schema (2020-12) of every JSON document about results, made of the one list of columns.

`docs/schemas/` holds what `schemas` returns, one file a document; `harness results schema NAME` prints one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.analysis.decision import DecisionOutcome
from harness.analysis.result_row import (
    ADDED_COLUMNS,
    COLUMNS,
    INVOCATION_COLUMNS,
    JSON_VALUES,
    LISTS_OF_NUMBERS,
    LISTS_OF_TEXT,
    unit_of,
)
from harness.export.text_formats import EXPORT_SCHEMA_VERSION
from harness.store.listing import SweepState
from harness.store.records import SweepStatus

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": "string", "format": "date-time"}


def schemas() -> dict[str, Schema]:
    """Return all schemas by the name of their document."""
    old_sweep = _object(
        {
            "sweep_id": TEXT,
            "started_at_utc": MOMENT,
            "status": _status(),
            "invocations": COUNT,
            "log_files": COUNT,
            "log_bytes": COUNT,
        }
    )
    row = _object({name: _column(name, COLUMNS) for name in COLUMNS})
    row["required"] = [name for name in COLUMNS if name not in ADDED_COLUMNS]
    documents = {
        "export-summary": ("`harness results export --format json`", _export("summary", COLUMNS)),
        "export-invocations": (
            "`harness results export --rows invocations --format json`",
            _export("invocations", INVOCATION_COLUMNS),
        ),
        "sweep": (
            "`--json` of `harness sweep`, `harness bench` and `harness results show`",
            {"sweep": _sweep(), "rows": _list(row), "decisions": _list(_decision())},
        ),
        "results-list": ("`harness results list --json`", {"sweeps": _list(_listed_sweep())}),
        "results-prune": (
            "`harness results prune --json` and `harness results remove --json`",
            {
                "dry_run": {"type": "boolean"},
                "sweeps": _list(old_sweep),
                "kept_running": _list(TEXT),
                "leftovers": _list(TEXT),
            },
        ),
    }
    return {name: _document(name, title, properties) for name, (title, properties) in documents.items()}


def _document(name: str, title: str, properties: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:harness:{name}:{EXPORT_SCHEMA_VERSION}",
        "title": title,
        **_object({"schema_version": {"const": EXPORT_SCHEMA_VERSION}, **properties}, optional=("decisions",)),
    }


def _object(properties: Schema, optional: Collection[str] = ()) -> Schema:
    """Return an object that has all of these, but perhaps the optional ones, and nothing else."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _export(rows_are: str, columns: Mapping[str, tuple[str, str]]) -> Schema:
    """Return what an export holds; with `--columns`, some columns may be left out of all rows.

    Chosen columns that stand in both tables make a summary: they hold the same there.
    """
    row = _object({name: _column(name, columns) for name in columns}) | {"required": []}
    return {
        "rows_are": {"const": rows_are},
        "columns": {"type": "array", "items": {"enum": list(columns)}, "uniqueItems": True},
        "rows": _list(row),
    }


def _column(name: str, columns: Mapping[str, tuple[str, str]]) -> Schema:
    kind, description = columns[name]
    unit = unit_of(name)
    return {**_values(name, kind), "description": description, **({"x-unit": unit} if unit else {})}


def _values(name: str, kind: str) -> Schema:
    if name in LISTS_OF_TEXT:
        return {"type": ["array", "null"], "items": TEXT}
    if name in LISTS_OF_NUMBERS:
        return {"type": ["array", "null"], "items": {"type": "number"}}
    if name in JSON_VALUES:
        return {"type": [JSON_VALUES[name], "null"]}
    return {"type": [{"Int64": "integer", "boolean": "boolean", "float64": "number", "object": "string"}[kind], "null"]}


def _sweep() -> Schema:
    maybe_moment = {"type": ["string", "null"], "format": "date-time"}
    return _object(
        {
            "id": TEXT,
            "started_at_utc": MOMENT,
            "finished_at_utc": maybe_moment,
            "status": _status(),
            "preset": TEXT,
            "seed": {"type": "integer"},
            "harness_version": TEXT,
            "spec": {"type": "object"},
            "host": {"type": "object"},
        }
    )


def _decision() -> Schema:
    """Return what to ship on one device; `results show` prints none."""
    figure = _object(dict.fromkeys(("name", "value", "detail"), TEXT))
    texts = dict.fromkeys(("device", "serial", "ship", "answer", "headline"), TEXT)
    outcome = {"enum": [outcome.value for outcome in DecisionOutcome]}
    lists = {"figures": _list(figure), "notes": _list(TEXT)}
    return _object({**texts, "outcome": outcome, "cell_key": {"type": ["string", "null"]}, **lists})


def _listed_sweep() -> Schema:
    """Return a sweep with what became of it, which version 0.1 did not write yet."""
    state: Schema = {"enum": [state.value for state in SweepState]}
    sweep = _sweep()
    added = {"state": state, "devices": _list(TEXT), "rows": COUNT, "failed": COUNT}
    return sweep | {"properties": sweep["properties"] | added}


def _status() -> Schema:
    return {"enum": [status.value for status in SweepStatus]}
