"""One row of a result, with the unit and description of every column. Exports, JSON Schema and docs derive from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from harness.text import to_json_value


def _column(description: str, *, is_added: bool = False, **default: Any) -> Any:  # noqa: ANN401 - a field's default
    """Return a column; documents of harness 0.1 lack one that `is_added`."""
    return field(metadata={"description": description, "is_added": is_added}, **(default or {"default": None}))


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One row per cell, and one per device or recipe that failed as a whole. Names end in their units."""

    sweep_id: str = field(metadata={"description": "The sweep that the row belongs to"})
    device: str | None = _column(
        "The device's title, such as `Google Pixel 8`; empty for a recipe that gave no variant"
    )
    serial: str | None = _column("ADB serial, or `host`")
    device_kind: str | None = _column("`phone`, `emulator`, `virtual` or `host`")
    labels: Sequence[str] = _column(
        "What was unusual about the device, such as `virtual phone` or `low battery`", default_factory=list
    )
    profile: str | None = _column("The device profile that was used")
    variant: str | None = _column("The recipe's name; empty where a whole device failed")
    variant_sha256: str | None = _column("Identity of the variant")
    size_bytes: int | None = _column("Size of the `.tflite` file")
    gzip_size_bytes: int | None = _column("Its size after gzip")
    delegate_requested: str | None = _column("`cpu`, `cpu-builtin`, `gpu`, `nnapi` or `nnapi:ACCELERATOR`")
    delegate_achieved: str | None = _column("What the log proves to have run; of several invocations, the worst")
    delegated_nodes: int | None = _column("Nodes of the graph that the delegate took")
    total_nodes: int | None = _column("Nodes of the graph")
    partitions: int | None = _column("Pieces that the delegate's share is cut into")
    fell_back: bool | None = _column("Whether all or part ran elsewhere than asked; empty where the log does not tell")
    threads: int | None = _column("CPU threads")
    core_mask: str | None = _column("Cores that the tool was pinned to, hexadecimal; empty where it was not")
    tool_sha256: str | None = _column("Identity of the `benchmark_model` binary")
    cell_key: str | None = _column("Content hash of all that makes two results alike")
    invocations_ok: int | None = _column("Processes of the latency pass that gave a measurement")
    invocations_failed: int | None = _column(
        "Failed processes of the latency pass, also those of the cell's own fault that a further try made good"
    )
    latency_of: str | None = _column(
        "What an invocation's latency is: its `median` where the tool prints one, else `average`"
    )
    latency_median_us: float | None = _column("Median of the invocations' latencies, microseconds")
    latency_low_us: float | None = _column("Lower end of its 95 % bootstrap interval, microseconds")
    latency_high_us: float | None = _column("Upper end of its 95 % bootstrap interval, microseconds")
    latency_spread: float | None = _column("Interquartile range of the invocations over their median")
    latency_within_spread: float | None = _column(
        "Median standard deviation of one process's iterations over its latency; never an error bar"
    )
    latency_outliers: int | None = _column("Invocations far from the others (modified z-score over 3.5); they are kept")
    latency_drift: float | None = _column(
        "Relative change from the first invocation to the last, where it is more than chance at 1 %"
    )
    warmup_runs: int | None = _column("Runs before the timed ones that each process of the latency pass was asked for")
    warmup_converged: bool | None = _column(
        "Whether the runs after so long a warm-up were as fast as those in it; empty where it was not tested"
    )
    init_cold_us: float | None = _column("Median initialisation of first loads with an empty cache, microseconds")
    init_warm_us: float | None = _column("Median initialisation of the loads right after those, microseconds")
    init_cached: bool | None = _column(
        "Whether the delegate kept a cache between the two; if not, the first is just the first process of the cell"
    )
    init_median_us: float | None = _column("Median initialisation, microseconds")
    first_inference_median_us: float | None = _column("Median first inference, microseconds")
    sustained_curve_us: Sequence[float] | None = _column(
        "Latency of each window of the sustained run in the order of time, microseconds"
    )
    sustained_change: float | None = _column("Relative change from its first window to its last: 0.2 is 20 % slower")
    memory_overall_mb: float | None = _column("Median overall footprint of the memory pass, MB as the tool prints it")
    memory_peak_mb: float | None = _column("Median peak footprint of the memory pass, MB as the tool prints it")
    delegate_time_share: float | None = _column(
        "Share of the profiled time that was spent inside a delegate, 0 to 1; for `cpu` that is XNNPACK"
    )
    samples: int | None = _column("Labelled samples that went through the delegate")
    top1: float | None = _column("Share of them that were classified right")
    top1_low: float | None = _column("Lower end of its 95 % Wilson interval")
    top1_high: float | None = _column("Upper end of its 95 % Wilson interval")
    top5: float | None = _column("Share with the right label among the five largest")
    float_top1: float | None = _column("Top-1 of the float model on this host, on the same samples")
    accuracy_drop_points: float | None = _column(
        "`100 * (float_top1 - top1)`: percentage points lost; negative is a gain"
    )
    agreement: float | None = _column("Share of samples with the same class as the float model")
    output_check: bool | None = _column("Whether the outputs equal the host's run of the same file, within the limits")
    accuracy_note: str | None = _column("What was out of the ordinary in the accuracy pass")
    rank: int | None = _column("Place by latency among the ranked rows of the device; empty for all others")
    tied: bool | None = _column("Whether the place is shared, since the intervals overlap")
    fastest: bool | None = _column("Whether the row holds the first place of its device, alone or tied")
    verdict: str = field(metadata={"description": "`ranked`, or why the row has no rank"})
    sittings: str | None = _column(
        "When its latency was measured: numbers of the sweep's sessions, such as `1, 2`. It begins with 1, "
        "and each time that it is resumed adds one"
    )
    set_aside: str | None = _column(
        "What changed before the sweep was resumed, so that another row of the same name counts instead"
    )
    failure_class: str | None = _column("Class of the gravest failure of the row; empty where nothing failed")
    failure_message: str | None = _column("What happened, in one sentence")
    failure_evidence: str | None = _column("The lines that prove it")
    failure_advice: str | None = _column("What to do about it")
    fidelity_snr_db: float | None = _column(
        "Signal to noise of the variant against the float model on this host, decibels (120: equal); of several "
        "outputs the worst, as of the next three",
        is_added=True,
    )
    fidelity_cosine: float | None = _column("Cosine between the outputs of both", is_added=True)
    fidelity_range_kept: float | None = _column(
        "Share of the range of the float model's output that is kept, 0 to 1", is_added=True
    )
    fidelity_agreement: float | None = _column(
        "Share of equal answers; the float model's near ties count as equal", is_added=True
    )
    fidelity_inputs: str | None = _column("What both ran on: `real`, `calibration` or `random` inputs", is_added=True)
    fidelity_note: str | None = _column("Why the variant was not compared with the float model", is_added=True)

    @property
    def memory_mb(self) -> float | None:
        """Return the memory that stands for the cell: the peak if the tool prints one."""
        return self.memory_overall_mb if self.memory_peak_mb is None else self.memory_peak_mb

    @property
    def accuracy_decimals(self) -> int:
        """Return the decimals of a percentage that the labelled samples support."""
        return 2 if (self.samples or 0) >= 1000 else 1  # noqa: PLR2004 - each sample is 0.1 points or less

    @property
    def accuracy_change_points(self) -> float | None:
        """Return the change against the float model that the printed shares give; a loss is negative."""
        if self.top1 is None or self.float_top1 is None:
            return None
        after, before = (round(100 * share, self.accuracy_decimals) for share in (self.top1, self.float_top1))
        return round(after - before, self.accuracy_decimals) + 0.0  # + 0.0 makes a plain zero of minus zero

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON values, by column."""
        return {name: to_json_value(value) for name, value in vars(self).items()}


_KINDS = {"int | None": "Int64", "bool | None": "boolean", "float | None": "float64"}

COLUMNS: dict[str, tuple[str, str]] = {
    column.name: (_KINDS.get(str(column.type), "object"), column.metadata["description"])
    for column in fields(ResultRow)
}
"""The type in pandas and the description of each column of a table of results."""

ADDED_COLUMNS = frozenset(column.name for column in fields(ResultRow) if column.metadata.get("is_added"))
"""Columns that a valid document may lack."""

INVOCATION_COLUMNS: dict[str, tuple[str, str]] = {
    "sweep_id": ("object", "The sweep that the row belongs to"),
    "device": ("object", "The device's title, such as `Google Pixel 8`"),
    "serial": ("object", "ADB serial, or `host`"),
    "device_kind": ("object", "`phone`, `emulator`, `virtual` or `host`"),
    "profile": ("object", "The device profile that was used"),
    "variant": ("object", "The recipe's name"),
    "variant_sha256": ("object", "Identity of the variant"),
    "delegate_requested": ("object", "`cpu`, `cpu-builtin`, `gpu`, `nnapi` or `nnapi:ACCELERATOR`"),
    "threads": ("Int64", "CPU threads"),
    "core_mask": ("object", "Cores that the tool was pinned to, hexadecimal; empty where it was not"),
    "tool_sha256": ("object", "Identity of the `benchmark_model` binary"),
    "cell_key": ("object", "Content hash of all that makes two results alike"),
    "id": ("Int64", "Number of the row in its store, in the order of time; it means nothing outside"),
    "purpose": (
        "object",
        "The pass: `latency`, `memory`, `op_profile`, `warm_up`, `init_cold`, `init_warm` or `sustained`",
    ),
    "invocation_index": ("Int64", "Place in the plan, within cell and pass"),
    "attempt": ("Int64", "1, or more where the same place was tried again"),
    "is_last_attempt": ("boolean", "Whether it is the attempt of its place that counts"),
    "block": ("Int64", "Interleaved block that the process ran in; processes of one block are neighbours in time"),
    "started_at_utc": ("object", "When the process started: ISO 8601, UTC"),
    "wall_s": ("float64", "How long it took, start to end, seconds"),
    "command": ("object", "The command line, a list of arguments"),
    "log_path": ("object", "Its raw log (gzip), relative to the results folder"),
    "labels": ("object", "What was unusual about this process, such as `throttled`"),
    "telemetry_before": ("object", "State of the device just before: a JSON object, units in its names"),
    "telemetry_during": ("object", "What was sampled during the timed runs: a JSON object, units in its names"),
    "telemetry_after": ("object", "State of the device just after: a JSON object, units in its names"),
    "gate": ("object", "What the thermal gate saw before it opened: a JSON object, units in its names"),
    "cores_allowed": ("object", "Cores that the process was seen to be allowed to use"),
    "delegate_achieved": ("object", "What the log proves to have run"),
    "delegated_nodes": ("Int64", "Nodes of the graph that the delegate took"),
    "total_nodes": ("Int64", "Nodes of the graph"),
    "partitions": ("Int64", "Pieces that the delegate's share is cut into"),
    "fell_back": ("boolean", "Whether all or part ran elsewhere than asked; empty where the log does not tell"),
    "fell_back_reason": ("object", "The runtime's own sentence about it, where it gives one"),
    "runs": ("Int64", "Timed runs of the model within the process"),
    "latency_avg_us": ("float64", "Average of its timed runs, microseconds"),
    "latency_median_us": ("float64", "Median of its timed runs, microseconds; empty where the tool prints none"),
    "latency_min_us": ("float64", "Fastest timed run, microseconds"),
    "latency_max_us": ("float64", "Slowest timed run, microseconds"),
    "latency_std_us": ("float64", "Standard deviation of its timed runs, microseconds; never an error bar of a cell"),
    "init_us": ("float64", "Initialisation: loading the model and preparing the delegate, microseconds"),
    "first_inference_us": ("float64", "First run of the model, microseconds"),
    "warmup_asked_runs": ("Int64", "Runs before the timed ones that the process was asked for"),
    "warmup_converged": ("boolean", "Whether the runs after so long a warm-up were as fast as those in it"),
    "warmup_runs": ("Int64", "Runs before the timed ones that it made"),
    "warmup_window_us": ("float64", "How long those took together, microseconds"),
    "timed_window_us": ("float64", "How long the timed runs took together, microseconds"),
    "memory_init_mb": ("float64", "Footprint after initialisation, MB as the tool prints it"),
    "memory_overall_mb": ("float64", "Overall footprint, MB as the tool prints it"),
    "peak_memory_mb": ("float64", "Peak footprint, MB as the tool prints it"),
    "operators": ("object", "Where the time went: a JSON array with one object for each kind of operator and place"),
    "failure_class": ("object", "Class of the failure; empty where nothing failed"),
    "failure_message": ("object", "What happened, in one sentence"),
    "failure_evidence": ("object", "The lines that prove it"),
}
"""The columns of a table with one row per process."""

LISTS_OF_TEXT = frozenset({"labels", "command"})
LISTS_OF_NUMBERS = frozenset({"sustained_curve_us"})
JSON_VALUES = {
    "telemetry_before": "object",
    "telemetry_during": "object",
    "telemetry_after": "object",
    "gate": "object",
    "operators": "array",
}
"""What an `object` column holds where that is not text."""

_UNITS = {
    "_us": "microseconds",
    "_s": "seconds",
    "_mb": "MB as the tool prints it",
    "_bytes": "bytes",
    "_points": "percentage points",
    "_utc": "ISO 8601, UTC",
    "_db": "decibels",
}


def kind_of(name: str) -> str:
    """Return the type of a column in pandas, in either table; `object` for one that is in neither."""
    kind, _ = (COLUMNS | INVOCATION_COLUMNS).get(name, ("object", ""))
    return kind


def unit_of(name: str) -> str | None:
    """Return the unit that a column's name ends in; None for a count, a share or text."""
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
