"""Where the numbers come from: the sweep, its devices, its variants and its tools, as lists of names and values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.sweep_data import SweepData
from harness.store.rows import DeviceRow, JsonObject, ToolRow, VariantRow
from harness.text import number, printable

MOST_VARIANTS = 200


@dataclass(frozen=True)
class Origin:
    """One thing that took part, with what is known of it."""

    title: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Provenance:
    """All that took part in one sweep."""

    sweep: Origin
    devices: Sequence[Origin]
    variants: Sequence[Origin]
    tools: Sequence[Origin]
    spec: str
    """The whole spec as JSON."""
    more_variants: int
    """Variants that are not listed."""


def provenance(data: SweepData) -> Provenance:
    """Return the origins; what is not known is left out."""
    variants = [_variant(row) for row in data.variants]
    return Provenance(
        _sweep(data),
        [_device(row) for row in data.devices],
        variants[:MOST_VARIANTS],
        [_tool(row) for row in data.tools],
        json.dumps(data.record.spec, indent=2, ensure_ascii=False, default=str),
        max(0, len(variants) - MOST_VARIANTS),
    )


def _origin(title: object, facts: Iterable[tuple[str, object]]) -> Origin:
    return Origin(printable(title), [(name, printable(value)) for name, value in facts if value not in (None, "", [])])


def _sweep(data: SweepData) -> Origin:
    record = data.record
    host = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    finished = record.finished_at.strftime("%Y-%m-%d %H:%M UTC") if record.finished_at else "not finished"
    return _origin(
        record.id,
        [
            ("model", record.spec.get("model")),
            ("started", record.started_at.strftime("%Y-%m-%d %H:%M UTC")),
            ("finished", finished),
            ("resumed", "; ".join(map(_sitting, record.carried_on))),
            ("status", record.status),
            ("preset", record.preset),
            ("seed", record.seed),
            ("host", host),
            ("harness", record.harness_version),
        ],
    )


def _sitting(sitting: Mapping[str, Any]) -> str:
    changes = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in sitting["changes"].items())
    return f"{sitting['started_at_utc']} by harness {sitting['harness_version']}" + (f" ({changes})" if changes else "")


def _device(row: DeviceRow) -> Origin:
    facts = row.facts or {}
    preparation = row.preparation or {}
    knobs = [f"{knob['name']} {knob['outcome']}" for knob in preparation.get("knobs", [])]
    return _origin(
        row.title,
        [
            ("serial", row.serial),
            ("kind", row.kind),
            ("labels", ", ".join(row.labels or [])),
            ("profile", row.profile),
            ("SoC", facts.get("soc") or facts.get("board")),
            ("GPU", facts.get("gpu")),
            ("Android", facts.get("android_version")),
            ("API level", facts.get("api_level")),
            ("fingerprint", facts.get("fingerprint")),
            ("build", facts.get("build_type")),
            ("memory", f"{number(facts['memory_mb'], 4)} MB" if facts.get("memory_mb") else None),
            ("prepared", ", ".join(knobs)),
            ("measured from", preparation.get("host")),
            ("faults", _events(preparation.get("faults", []))),
            ("restarted", _events(preparation.get("restarts", []))),
            ("failure", row.failure_message),
        ],
    )


def _events(events: Iterable[JsonObject]) -> str:
    """Tell what befell a device, and when."""
    return "; ".join(f"{event['at_utc']} {event['message']}" for event in events)


def _variant(row: VariantRow) -> Origin:
    card = row.card or {}
    steps = " → ".join(str(step.get("technique")) for step in card.get("steps", [])) if card else None
    return _origin(
        row.name,
        [
            ("SHA-256", row.sha256),
            ("made of", f"{card['model']}, SHA-256 {card['model_sha256']}" if card else None),
            ("steps", (steps or "none: the model as it is") if card else None),
            ("calibration", card.get("calibration")),
            ("training data", card.get("training_data")),
            ("made with", ", ".join(f"{name} {version}" for name, version in card.get("libraries", {}).items())),
            ("against the float model", row.fidelity),
            ("failure", row.failure_message),
        ],
    )


def _tool(row: ToolRow) -> Origin:
    facts = row.facts
    return _origin(
        row.name,
        [
            ("SHA-256", row.sha256),
            ("family", row.family),
            ("system", facts.get("system")),
            ("ABI", facts.get("abi")),
            ("origin", facts.get("origin")),
        ],
    )
