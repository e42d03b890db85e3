"""Carry out a sweep: make the variants, measure every device side by side, journal all that happens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from harness.accuracy.dataset import Dataset, choose_samples, load_dataset, random_samples, require_fit
from harness.accuracy.on_device import Evidence
from harness.accuracy.reference import Reference
from harness.benchmark.registry import ToolRegistry
from harness.compression.recipes import find_recipe, within_budget
from harness.devices.lease import LeaseHeldError
from harness.errors import DEVICE_GONE, Failure, FailureClass, FailureError, HarnessError, NothingToRunOnError
from harness.paths import cache_folder
from harness.progress import Observer
from harness.results.records import SweepStatus
from harness.results.store import Store
from harness.spec.model import find_model
from harness.spec.sweep import SweepSpec
from harness.sweep.arrivals import PhoneArrivals
from harness.sweep.beginning import begin_sweep
from harness.sweep.context import SweepContext
from harness.sweep.crew import Crew
from harness.sweep.plan import Waves, at_once
from harness.sweep.restarting import run_device
from harness.sweep.retries import RULES
from harness.sweep.scheduling import scheduling_of
from harness.sweep.targets import opened
from harness.sweep.variants import Variants, make_variants

FLOAT_RECIPE = "fp32"
AS_IS_RECIPE = "as-is"


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended; the numbers are in the store."""

    sweep_id: str
    status: SweepStatus


class SweepRunner:
    """One sweep into one store. A sweep that was stopped is run again under its id, and repeats nothing."""

    def __init__(
        self,
        store: Store,
        observer: Observer,
        *,
        registry: ToolRegistry | None = None,
        stop: threading.Event | None = None,
        waves: Waves = at_once,
    ) -> None:
        """`stop` ends the sweep early when it is set; `waves` divides what has not enough time."""
        self._store = store
        self._store.tell = observer.warn
        self._observer = observer
        self._registry = registry or ToolRegistry()
        self._stop = stop or threading.Event()
        self._waves = waves

    def run(
        self, spec: SweepSpec, devices: Sequence[str], *, resume: str | None = None, takes_new: bool = False
    ) -> SweepOutcome:
        """Run a sweep on devices by name, and with `takes_new` on phones that are attached meanwhile.

        Raises `HarnessError` only for what stops the whole of it.
        """
        model = find_model(spec.model)
        recipes = [find_recipe(name) for name in spec.recipes]
        if spec.max_drop_points is not None:
            recipes = [within_budget(recipe, spec.max_drop_points) for recipe in recipes]
        dataset = load_dataset(model)  # bad data is found before any work is done
        variants = make_variants(
            model, recipes, find_recipe(FLOAT_RECIPE), cache=cache_folder(), observer=self._observer
        )
        evidence = _evidence(spec, dataset, variants)
        sweep_id = resume or begin_sweep(self._store, spec)
        if resume:
            self._store.resume_sweep(sweep_id)
        self._store_variants(sweep_id, variants)
        if not variants.made:
            self._store.finish_sweep(sweep_id, SweepStatus.FINISHED)
            raise NothingToRunOnError(
                f"No variant of {spec.model} could be made: {variants.failed[0].failure.message}",
                variants.failed[0].failure.advice,
            )
        scheduling = scheduling_of(spec, self._store, sweep_id, devices=len(devices), stop=self._stop)
        context = SweepContext(
            sweep_id,
            spec,
            variants.made,
            evidence,
            self._store,
            self._registry,
            self._observer,
            self._stop,
            scheduling,
            self._waves,
        )
        status = self._measure(context, devices, takes_new=takes_new)
        self._store.finish_sweep(sweep_id, status)
        return SweepOutcome(sweep_id, status)

    def _store_variants(self, sweep_id: str, variants: Variants) -> None:
        for variant in variants.made:
            self._store.add_variant(sweep_id, variant.card)
        for failed in variants.failed:
            self._store.add_variant_failure(sweep_id, failed.recipe, failed.failure)

    def _measure(self, context: SweepContext, devices: Sequence[str], *, takes_new: bool = False) -> SweepStatus:
        """Measure the devices. Ctrl-C lets what is under way finish and starts nothing more."""
        crew = Crew(
            lambda name: self._measure_device(context, name), PhoneArrivals(takes_new=takes_new), self._stop,
            self._observer.note,
        )  # fmt: skip
        crew.work(devices)
        return SweepStatus.INTERRUPTED if self._stop.is_set() else SweepStatus.FINISHED

    def _measure_device(self, context: SweepContext, name: str) -> bool:
        """Measure one device; whatever stops it is stored as its failure, and the other devices go on.

        Return whether it went away in the middle of its work.
        """
        serial = name
        try:
            with opened(name, context.registry, broken_gpu=context.spec.broken_gpu) as device:
                serial = device.serial
                run_device(context, device)
        except LeaseHeldError as error:
            self._fail_device(context, serial, error.failure)
            return True
        except FailureError as error:
            if RULES[error.failure.failure_class].is_fault:
                context.faults.note(serial, error.failure)
            quarantine = context.faults.quarantine(serial)
            self._fail_device(context, serial, quarantine or error.failure)
            is_own = serial != name  # a virtual phone of this sweep's own is gone
            return error.failure.failure_class in DEVICE_GONE and not is_own and not quarantine
        except NothingToRunOnError as error:
            failure = Failure(FailureClass.DEVICE_LOST, str(error), error.advice)
            self._fail_device(context, serial, failure)
        except HarnessError:
            self._stop.set()  # such as a full disk on this host: nothing that follows could be kept
            raise
        return False

    def _fail_device(self, context: SweepContext, serial: str, failure: Failure) -> None:
        self._observer.warn(failure.message)
        context.store.add_device_failure(context.sweep_id, serial, failure)


def _evidence(spec: SweepSpec, dataset: Dataset | None, variants: Variants) -> Evidence | None:
    """Return what outputs are checked with: labelled samples, or random inputs for a model without data.

    Raises `UsageError` when the data does not fit the model.
    """
    count = spec.measurement.accuracy_samples
    if not count or not variants.made:
        return None
    card = variants.made[0].card
    samples = choose_samples(dataset, count) if dataset else random_samples(card.inputs)
    if dataset:
        require_fit(samples, card)
    return Evidence(samples, Reference(cache_folder() / "reference"), variants.reference, spec.output_limits)
