"""Carry out a sweep: make the variants, measure every device side by side meanwhile, journal all that happens."""

from __future__ import annotations

import functools
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.accuracy.float_comparison import FloatComparer
from harness.accuracy.on_device import CheckData
from harness.accuracy.reference import HostOutputs
from harness.benchmark.registry import ToolRegistry
from harness.compression.recipes import find_recipe, usual_recipes, within_budget
from harness.datasets.comparison import ComparisonInputs, InputKind, noise
from harness.datasets.labelled import Dataset, choose_samples, data_notes, fit_dataset, load_dataset
from harness.devices.device import Device
from harness.errors import MissingPrerequisiteError
from harness.log_setup import log_to_folder
from harness.paths import cache_folder, require_cache
from harness.progress import LoggingObserver, Observer
from harness.spec.model import ModelSpec
from harness.spec.sweep import DEFAULT_RECIPES, SweepSpec
from harness.store.records import SweepRecord, SweepStatus, new_sweep_id, sweep_folder
from harness.store.store import Store
from harness.sweep.context import SweepContext
from harness.sweep.device.measure import measure_cells
from harness.sweep.device_pool import DevicePool
from harness.sweep.device_source import AdbSource, DeviceSource
from harness.sweep.plan import Groups, at_once
from harness.sweep.preflight import check_spec
from harness.sweep.resume import changed_settings, changes_sentence
from harness.sweep.sharing import scheduling_of
from harness.sweep.variants import FailedVariant, VariantQueue, make_reference, make_variants
from harness.text import utc_text
from harness.tflite.variant import Variant
from harness.version import __version__


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended; the numbers are in the store."""

    sweep_id: str
    status: SweepStatus
    unreached: tuple[str, ...] = ()
    """Hosts that never answered, so that nobody knows what was not measured there."""


class SweepRunner:
    """One sweep into one store. A sweep that was stopped is run again under its id, and repeats nothing."""

    def __init__(
        self,
        store: Store,
        observer: Observer,
        *,
        registry: ToolRegistry | None = None,
        stop: threading.Event | None = None,
        groups: Groups = at_once,
        site: DeviceSource | None = None,
    ) -> None:
        """`stop` ends the sweep early when it is set; `groups` divides cells that do not all fit into the time.

        `site` is where the phones are; by default the adb servers that the spec names.
        """
        self._store = store
        self._store.tell = observer.warn
        self._observer = LoggingObserver(observer)
        self._registry = registry or ToolRegistry(report=observer.note)
        self._stop = stop or threading.Event()
        self._groups = groups
        self._site = site

    def run(
        self, spec: SweepSpec, devices: Sequence[str], *, resume: str | None = None, takes_new: bool = False
    ) -> SweepOutcome:
        """Run a sweep on devices by name, and with `takes_new` on phones that are attached meanwhile.

        Raises `HarnessError` only for what stops the whole of it.
        """
        check_spec(spec)
        model = spec.find_model()
        if spec.recipes == DEFAULT_RECIPES:
            usual, note = usual_recipes(spec.recipes, model)
            spec = spec.model_copy(update={"recipes": tuple(recipe.name for recipe in usual)})
            if note:
                self._observer.note(note)
        if resume:
            changes = changed_settings(self._store.find_sweep(resume), spec)  # refused before any work is done
            self._observer.note(changes_sentence(resume, changes))
        recipes = [find_recipe(name) for name in spec.recipes]
        if spec.max_drop_points is not None:
            recipes = [within_budget(recipe, spec.max_drop_points) for recipe in recipes]
        dataset = load_dataset(model)  # bad data is found before any work is done
        for note in data_notes(model, dataset):
            self._observer.note(note)
        cache = require_cache()
        floats = make_reference(model, cache=cache, observer=self._observer, stop=self._stop)
        outcomes = make_variants(model, recipes, cache=cache, observer=self._observer, stop=self._stop)
        first = _until_one_is_made(outcomes)
        if not self._stop.is_set() and not any(isinstance(outcome, Variant) for outcome in first):
            raise _nothing_made(spec, first)
        evidence = _evidence(spec, model, dataset, first, floats)
        comparer = FloatComparer(
            model, floats, HostOutputs(cache / "reference"), _inputs(dataset, evidence), observer=self._observer
        )
        sweep_id = resume or begin_sweep(self._store, spec)
        if resume:
            resume_sweep(self._store, sweep_id, spec)
        status = SweepStatus.INTERRUPTED
        site = self._site or AdbSource(spec.hosts)
        try:
            status = self._run(spec, sweep_id, devices, site, first, outcomes, evidence, comparer, takes_new=takes_new)
        except KeyboardInterrupt:
            self._stop.set()
        finally:
            self._store.finish_sweep(sweep_id, status)
        return SweepOutcome(sweep_id, status, tuple(site.unreached(devices)))

    def _run(
        self,
        spec: SweepSpec,
        sweep_id: str,
        devices: Sequence[str],
        site: DeviceSource,
        first: Sequence[Variant | FailedVariant],
        outcomes: Iterator[Variant | FailedVariant],
        evidence: CheckData | None,
        comparer: FloatComparer,
        *,
        takes_new: bool,
    ) -> SweepStatus:
        queue = VariantQueue(is_open=True, stop=self._stop)
        self._queue(sweep_id, first, queue, comparer)
        scheduling = scheduling_of(
            spec,
            self._store,
            sweep_id,
            devices=len(devices),
            stop=self._stop,
            evidence_sha256=evidence.sha256 if evidence else None,
        )
        context = SweepContext(
            sweep_id,
            spec,
            queue,
            evidence,
            self._store,
            self._registry,
            self._observer,
            self._stop,
            scheduling,
            self._groups,
        )
        build_rest = functools.partial(self._queue_rest, sweep_id, outcomes, queue, comparer)
        with log_to_folder(self._store.folder / sweep_folder(sweep_id)):
            return self._measure(context, devices, site, takes_new=takes_new, meanwhile=build_rest)

    def _queue(
        self,
        sweep_id: str,
        outcomes: Iterable[Variant | FailedVariant],
        queue: VariantQueue,
        comparer: FloatComparer,
    ) -> None:
        """Compare each variant with the float model, store the outcome, and hand it to the devices."""
        for outcome in outcomes:
            if isinstance(outcome, FailedVariant):
                self._store.add_variant_failure(sweep_id, outcome.recipe, outcome.failure)
                continue
            compared = comparer.compared(outcome)
            if self._stop.is_set():  # which may have ended the comparison
                return
            self._store.add_variant(sweep_id, compared.card)
            queue.add(compared)

    def _queue_rest(
        self,
        sweep_id: str,
        outcomes: Iterator[Variant | FailedVariant],
        queue: VariantQueue,
        comparer: FloatComparer,
    ) -> None:
        """Make the rest of the variants. Raises `HarnessError`, and stops the sweep, for what concerns them all."""
        try:
            self._queue(sweep_id, outcomes, queue, comparer)
        except BaseException:
            self._stop.set()
            raise
        finally:
            queue.close(is_complete=not self._stop.is_set())

    def _measure(
        self,
        context: SweepContext,
        devices: Sequence[str],
        site: DeviceSource,
        *,
        takes_new: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> SweepStatus:
        """Measure the devices. Ctrl-C lets running invocations finish, ends `meanwhile`, and starts nothing more."""
        arrivals = site.arrivals(takes_new=takes_new)
        pool = DevicePool(
            lambda name: site.measure(context, name), arrivals, self._stop, self._observer.note, meanwhile=meanwhile
        )
        pool.work(devices)
        return SweepStatus.INTERRUPTED if self._stop.is_set() else SweepStatus.FINISHED


def _until_one_is_made(outcomes: Iterator[Variant | FailedVariant]) -> list[Variant | FailedVariant]:
    """Return what became of the recipes up to the first that gave a variant: devices have nothing to do before."""
    seen: list[Variant | FailedVariant] = []
    for outcome in outcomes:
        seen.append(outcome)
        if isinstance(outcome, Variant):
            break
    return seen


def _nothing_made(spec: SweepSpec, outcomes: Sequence[Variant | FailedVariant]) -> MissingPrerequisiteError:
    failure = next(outcome.failure for outcome in outcomes if isinstance(outcome, FailedVariant))
    return MissingPrerequisiteError(f"No variant of {spec.model} could be built: {failure.message}", failure.advice)


def _evidence(
    spec: SweepSpec,
    model: ModelSpec,
    dataset: Dataset | None,
    outcomes: Sequence[Variant | FailedVariant],
    floats: Variant | None,
) -> CheckData | None:
    """Return what outputs are checked with: labelled samples, or random inputs for a model without data.

    Raises `UsageError` when the data does not fit the model.
    """
    count = spec.measurement.accuracy_samples
    made = next((outcome for outcome in outcomes if isinstance(outcome, Variant)), None)
    if not count or not made:
        return None
    if dataset:
        samples = choose_samples(fit_dataset(dataset, model, made.card), count)
    else:
        samples = noise(model, floats or made).samples
    return CheckData(samples, HostOutputs(cache_folder() / "reference"), floats, spec.output_limits)


def _inputs(dataset: Dataset | None, evidence: CheckData | None) -> ComparisonInputs | None:
    """Return the labelled samples that outputs are checked with, so that the host runs each variant on them once."""
    return ComparisonInputs(InputKind.REAL, evidence.samples) if dataset and evidence else None


def begin_sweep(store: Store, spec: SweepSpec) -> str:
    """Store a new sweep and return its id."""
    started_at = datetime.now(UTC)
    host = {
        "name": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    record = SweepRecord(
        new_sweep_id(started_at), started_at, spec.model_dump(mode="json"), spec.preset, spec.seed, host
    )
    store.start_sweep(record)
    return record.id


def resume_sweep(store: Store, sweep_id: str, spec: SweepSpec) -> None:
    """Mark a sweep as running again, with a spec that may have changed since.

    Raises `UsageError` if another process runs it, or the changes leave nothing of it to reuse.
    """
    changes = changed_settings(store.find_sweep(sweep_id), spec)
    store.resume_sweep(sweep_id)
    session = {
        "started_at_utc": utc_text(datetime.now(UTC)),
        "host": platform.node(),
        "harness_version": __version__,
        "changes": changes,
    }
    store.note_sitting(sweep_id, spec.model_dump(mode="json"), session)


def sweep_variants(
    variants: Sequence[Variant],
    spec: SweepSpec,
    device: Device,
    *,
    store: Store,
    registry: ToolRegistry,
    observer: Observer,
) -> str:
    """Measure variants by the whole protocol but for accuracy, and return the sweep's id.

    `spec` names delegates, threads and counts; its model and recipes are not looked at. Raises `DeviceError`.
    """
    sweep_id = begin_sweep(store, spec.model_copy(update={"recipes": tuple(variant.name for variant in variants)}))
    status = SweepStatus.INTERRUPTED
    try:
        for variant in variants:
            store.add_variant(sweep_id, variant.card)
        queue = VariantQueue(variants)
        context = SweepContext(sweep_id, spec, queue, None, store, registry, observer, threading.Event())
        measure_cells(context, device)
        status = SweepStatus.FINISHED
    finally:
        store.finish_sweep(sweep_id, status)
    return sweep_id
