"""Measure how far a device differs from itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.tables import TableResult
from harness.errors import MissingPrerequisiteError, UsageError
from harness.paths import default_results
from harness.progress import Observer, Progress, to_observer

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.device_noise import DeviceFloors
    from harness.spec.sweep import SweepSpec
    from harness.store.store import Store

RECIPE = "fp32"
"""Every model has it, and every tool runs it."""
FEWEST_SWEEPS = 3
DEFAULT_SWEEPS = 10
"""The floor between sweeps is 3.3 times sqrt(2) their deviation with ten, 4.0 times with six, 9.9 times with three."""


@dataclass(frozen=True)
class NoiseFloors(TableResult):
    """The noise floors of the measured devices, one per device and delegate."""

    floors: tuple[DeviceFloors, ...]
    interrupted: bool = False

    def to_frame(self) -> pd.DataFrame:
        """Return one row per device and delegate; floors are relative differences, such as 0.03."""
        import pandas as pd

        return pd.DataFrame([asdict(floor) for floor in self.floors])

    def caption(self) -> str:
        """Explain the floor."""
        return "Noise floors: 99 of 100 comparisons of equal cells stay below them."


def measure_noise(
    device: str,
    *,
    sweeps: int = DEFAULT_SWEEPS,
    delegates: Sequence[str] = ("cpu",),
    model: str | None = None,
    preset: str = "standard",
    results: str | Path | None = None,
    progress: Progress = None,
) -> NoiseFloors:
    """Sweep the same variant several times (A/A), store the sweeps, and return the device's noise floors.

    `device` is an ADB serial or `host`. The floors use all A/A sweeps stored for the device in its present state. An
    interrupted measurement returns no floors. Raises `UsageError` and `MissingPrerequisiteError`.

    Example: `harness.measure_noise("host", sweeps=3).to_frame()`
    """
    from harness.analysis.device_noise import read_floors
    from harness.devices.device_ref import DeviceRef, RefKind
    from harness.spec.sweep import load_sweep_spec
    from harness.store.store import Store
    from harness.sweep.device_source import AdbSource
    from harness.sweep.preflight import check_sweep

    if DeviceRef.parse(device).kind is RefKind.VIRTUAL:
        raise UsageError(
            "Cannot measure the noise of a virtual phone that lives for one sweep.",
            "Start one with `harness phone start`, then name its serial.",
        )
    if sweeps < FEWEST_SWEEPS:
        raise UsageError(f"Cannot estimate noise from {sweeps} sweeps.", f"Run at least {FEWEST_SWEEPS}.")
    values = {
        "recipes": [RECIPE],
        "devices": [device],
        "delegates": list(delegates),
        "preset": preset,
        "purpose": "noise",
        "measurement": {"accuracy_samples": 0, "memory_invocations": 0, "init_pairs": 0},
    }
    spec = load_sweep_spec(None, values | ({"model": model} if model else {}))
    observer = to_observer(progress)
    try:
        check_sweep(spec, AdbSource(), observer)
    except MissingPrerequisiteError as error:
        raise MissingPrerequisiteError(f"Cannot measure {device}: {error}", error.advice) from error
    with Store.open(str(results or default_results())) as store:
        serials = _measure(store, spec, device, sweeps, observer)
        if serials is None:
            return NoiseFloors((), interrupted=True)
        return NoiseFloors(tuple(read_floors(store, serials)))


def _measure(store: Store, spec: SweepSpec, device: str, sweeps: int, observer: Observer) -> set[str] | None:
    """Run the sweeps and return the serials they measured; None if interrupted."""
    from harness.store.records import SweepStatus
    from harness.sweep.runner import SweepRunner

    serials: set[str] = set()
    for index in range(sweeps):
        observer.note(f"A/A sweep {index + 1} of {sweeps}")
        reseeded = spec.model_copy(update={"seed": spec.seed + index})
        outcome = SweepRunner(store, observer).run(reseeded, [device])
        if outcome.status is SweepStatus.INTERRUPTED:
            return None
        serials |= _measured(store, outcome.sweep_id, device)
    return serials


def _measured(store: Store, sweep_id: str, device: str) -> set[str]:
    """Return the serials that a sweep measured. Raises `MissingPrerequisiteError`: the next sweeps would fail too."""
    from harness.analysis.comparable_cell import read_comparable_cells

    serials = {side.serial for side in read_comparable_cells(store, sweep_id) if side.latencies_us}
    if not serials:
        failures = [row.failure_message for row in (*store.devices(sweep_id), *store.invocations(sweep_id))]
        reason = next((message for message in failures if message), "no invocation succeeded.")
        raise MissingPrerequisiteError(f"Cannot measure {device}: {reason}", "Run `harness devices` to see its state.")
    return serials
