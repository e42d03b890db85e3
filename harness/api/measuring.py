"""Measure a model's variants, or one file, on devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.api.tables import TableResult
from harness.errors import UsageError
from harness.paths import default_results
from harness.progress import Progress, to_observer

if TYPE_CHECKING:
    import pandas as pd

    from harness.spec.sweep import SweepSpec


@dataclass(frozen=True)
class SweepResult(TableResult):
    """A sweep that ended; its numbers are in the store."""

    sweep_id: str
    results: str = field(repr=False)
    """Folder or URL of the store; not shown, because a URL may hold a password."""
    interrupted: bool = False
    unreached: tuple[str, ...] = ()
    """Hosts whose adb server never answered: nothing is known about their phones."""

    def to_frame(self, rows: Literal["summary", "invocations"] = "summary") -> pd.DataFrame:
        """Return the stored table: one row per cell, or one row per invocation, as `load_results` does."""
        from harness.api.stored import load_results

        return load_results(self.results, self.sweep_id, rows)

    def caption(self) -> str:
        """Name the sweep."""
        return f"Sweep {self.sweep_id}" + (", interrupted" if self.interrupted else "")


def read_sweep_spec(
    spec: str | Path | SweepSpec | None,
    changes: Mapping[str, Any],
    *,
    resume: str | None = None,
    results: str | Path | None = None,
) -> tuple[SweepSpec, str | None]:
    """Return the spec to run and the full id of the sweep to resume, if any.

    `changes` are keys of a sweep file. They override the file `spec`, else the stored spec of the resumed sweep, else
    the default sweep. Raises `UsageError`.
    """
    from harness.spec.sweep import SweepSpec, change_sweep_spec, load_sweep_spec
    from harness.store.store import Store

    record = None
    if resume:
        with Store.open(str(results or default_results()), must_exist=True) as store:
            record = store.find_sweep(resume, measured=False)
    sweep_id = record.id if record else None
    given = dict(changes)
    if isinstance(spec, SweepSpec):
        chosen = change_sweep_spec(spec.model_dump(mode="json"), given, origin="sweep()") if given else spec
    elif record and spec is None:
        chosen = change_sweep_spec(record.spec, given, origin=f"sweep {record.id} with the new settings")
    else:
        chosen = load_sweep_spec(None if spec is None else Path(spec), given)
    return chosen, sweep_id


def sweep(
    spec: str | Path | SweepSpec | None = None,
    *,
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    delegates: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    resume: str | None = None,
    lab: str | None = None,
    progress: Progress = None,
) -> SweepResult:
    """Compress a model, measure the variants on every device, and store the results.

    `spec` is a sweep's TOML file or a `SweepSpec`; the other arguments override it, and `settings` holds any further
    key of a sweep file, such as `{"measurement": {"runs": 20}}`. `devices` are ADB serials, `host` or `virtual`; by
    default every attached phone, else this host. `resume` continues a stored sweep, by id or `latest`. `lab` is the
    address of a lab's scheduler. A failed cell is a row of the result. Raises `UsageError` for a bad spec and
    `MissingPrerequisiteError` if there is nothing to measure, or nothing to measure with.

    Example: `harness.sweep(model="model.tflite", recipes=["as-is"], devices=["host"]).to_frame()`
    """
    from harness.lab.device_source import open_source
    from harness.store.records import SweepStatus
    from harness.store.store import Store
    from harness.sweep.preflight import check_sweep
    from harness.sweep.runner import SweepRunner

    named = {
        "model": model,
        "recipes": recipes,
        "devices": devices,
        "delegates": delegates,
        "threads": threads,
        "preset": preset,
    }
    changes = {key: value for key, value in named.items() if value is not None} | dict(settings or {})
    place = str(results or default_results())
    chosen, sweep_id = read_sweep_spec(spec, changes, resume=resume, results=place)
    observer = to_observer(progress)
    with open_source(lab, place, chosen, observer) as source:
        checked = check_sweep(chosen, source, observer)
        with Store.open(place) as store:
            outcome = SweepRunner(store, observer, site=source).run(
                chosen, checked.names, resume=sweep_id, takes_new=checked.takes_new
            )
    return SweepResult(outcome.sweep_id, place, outcome.status is SweepStatus.INTERRUPTED, outcome.unreached)


def bench(
    file: str | Path,
    *,
    devices: Sequence[str] | None = None,
    delegates: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    preset: str = "quick",
    settings: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    progress: Progress = None,
) -> SweepResult:
    """Measure one `.tflite` file without changing it: a sweep of one variant.

    Its outputs are checked on random inputs. The other arguments, the result and the errors are those of `sweep`.

    Example: `harness.bench("model.tflite", devices=["host"], delegates=["cpu"]).to_frame()`
    """
    from harness.sweep.variants import AS_IS_RECIPE

    if Path(file).suffix != ".tflite":
        raise UsageError(f"Cannot bench {file}: it is not a .tflite file.", "Use `harness sweep --model MODEL`.")
    return sweep(
        None,
        model=str(file),
        recipes=[AS_IS_RECIPE],
        devices=devices,
        delegates=delegates,
        threads=threads,
        preset=preset,
        settings=settings,
        results=results,
        progress=progress,
    )
