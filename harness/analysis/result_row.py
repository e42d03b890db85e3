"""The columns of a summary: name, type in pandas, and what each holds. Export, docs and tests read this one list."""

from __future__ import annotations

COLUMNS: dict[str, tuple[str, str]] = {
    "sweep_id": ("object", "The sweep that the row belongs to"),
    "device": ("object", "The device's title, such as `Google Pixel 8`; empty for a recipe that gave no variant"),
    "serial": ("object", "ADB serial, or `host`"),
    "device_kind": ("object", "`phone`, `emulator`, `virtual` or `host`"),
    "labels": ("object", "What was unusual about the device, such as `virtual phone` or `low battery`"),
    "profile": ("object", "The device profile that was used"),
    "variant": ("object", "The recipe's name; empty where a whole device failed"),
    "variant_sha256": ("object", "Identity of the variant"),
    "size_bytes": ("Int64", "Size of the `.tflite` file"),
    "gzip_size_bytes": ("Int64", "Its size after gzip"),
    "delegate_requested": ("object", "`cpu`, `cpu-builtin`, `gpu`, `nnapi` or `nnapi:ACCELERATOR`"),
    "delegate_achieved": ("object", "What the log proves to have run; of several invocations, the worst"),
    "delegated_nodes": ("Int64", "Nodes of the graph that the delegate took"),
    "total_nodes": ("Int64", "Nodes of the graph"),
    "partitions": ("Int64", "Pieces that the delegate's share is cut into"),
    "fell_back": ("boolean", "Whether all or part ran elsewhere than asked; empty where the log does not tell"),
    "threads": ("Int64", "CPU threads"),
    "core_mask": ("object", "Cores that the tool was pinned to, hexadecimal; empty where it was not"),
    "tool_sha256": ("object", "Identity of the `benchmark_model` binary"),
    "cell_key": ("object", "Content hash of all that makes two results alike"),
    "invocations_ok": ("Int64", "Processes of the latency pass that gave a measurement"),
    "invocations_failed": (
        "Int64",
        "Failed processes of the latency pass, also those of the cell's own fault that a further try made good",
    ),
    "latency_of": ("object", "What an invocation's latency is: its `median` where the tool prints one, else `average`"),
    "latency_median_us": ("float64", "Median of the invocations' latencies, microseconds"),
    "latency_low_us": ("float64", "Lower end of its 95 % bootstrap interval, microseconds"),
    "latency_high_us": ("float64", "Upper end of its 95 % bootstrap interval, microseconds"),
    "latency_spread": ("float64", "Interquartile range of the invocations over their median"),
    "latency_within_spread": (
        "float64",
        "Median standard deviation of one process's iterations over its latency; never an error bar",
    ),
    "latency_outliers": ("Int64", "Invocations far from the others (modified z-score over 3.5); they are kept"),
    "latency_drift": (
        "float64",
        "Relative change from the first invocation to the last, where it is more than chance at 1 %",
    ),
    "warmup_runs": ("Int64", "Runs before the timed ones that each process of the latency pass was asked for"),
    "warmup_converged": (
        "boolean",
        "Whether the runs after so long a warm-up were as fast as those in it; empty where it was not tested",
    ),
    "init_cold_us": ("float64", "Median initialisation of first loads with an empty cache, microseconds"),
    "init_warm_us": ("float64", "Median initialisation of the loads right after those, microseconds"),
    "init_cached": (
        "boolean",
        "Whether the delegate kept a cache between the two; if not, the first is just the first process of the cell",
    ),
    "init_median_us": ("float64", "Median initialisation, microseconds"),
    "first_inference_median_us": ("float64", "Median first inference, microseconds"),
    "sustained_curve_us": ("object", "Latency of each window of the sustained run in the order of time, microseconds"),
    "sustained_change": ("float64", "Relative change from its first window to its last: 0.2 is 20 % slower"),
    "memory_overall_mb": ("float64", "Median overall footprint of the memory pass, MB as the tool prints it"),
    "memory_peak_mb": ("float64", "Median peak footprint of the memory pass, MB as the tool prints it"),
    "delegate_time_share": (
        "float64",
        "Share of the profiled time that was spent inside a delegate, 0 to 1; for `cpu` that is XNNPACK",
    ),
    "samples": ("Int64", "Labelled samples that went through the delegate"),
    "top1": ("float64", "Share of them that were classified right"),
    "top1_low": ("float64", "Lower end of its 95 % Wilson interval"),
    "top1_high": ("float64", "Upper end of its 95 % Wilson interval"),
    "top5": ("float64", "Share with the right label among the five largest"),
    "float_top1": ("float64", "Top-1 of the float model on this host, on the same samples"),
    "accuracy_drop_points": ("float64", "`100 * (float_top1 - top1)`: percentage points lost; negative is a gain"),
    "agreement": ("float64", "Share of samples with the same class as the float model"),
    "output_check": ("boolean", "Whether the outputs equal the host's run of the same file, within the limits"),
    "accuracy_note": ("object", "What was out of the ordinary in the accuracy pass"),
    "rank": ("Int64", "Place by latency among the ranked rows of the device; empty for all others"),
    "tied": ("boolean", "Whether the place is shared, since the intervals overlap"),
    "fastest": ("boolean", "Whether the row holds the first place of its device, alone or tied"),
    "verdict": ("object", "`ranked`, or why the row has no rank"),
    "sittings": (
        "object",
        "When its latency was measured: numbers of the sweep's sittings, such as `1, 2`. It begins with 1, and each "
        "time that it is carried on is one more",
    ),
    "set_aside": (
        "object",
        "What changed before the sweep was carried on, so that another row of the same name counts instead",
    ),
    "failure_class": ("object", "Class of the gravest failure of the row; empty where nothing failed"),
    "failure_message": ("object", "What happened, in one sentence"),
    "failure_evidence": ("object", "The lines that prove it"),
    "failure_advice": ("object", "What to do about it"),
}

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
    "telemetry_during": ("object", "What was sampled beside the timed runs: a JSON object, units in its names"),
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
"""The columns of a table with one row a process."""

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
}


def kind_of(name: str) -> str:
    """Return the type of a column in pandas, in either table; `object` for one that is in neither."""
    kind, _ = (COLUMNS | INVOCATION_COLUMNS).get(name, ("object", ""))
    return kind


def unit_of(name: str) -> str | None:
    """Return the unit that a column's name ends in; None for a count, a share or text."""
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
