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
from harness.errors import NothingToRunOnError
from harness.paths import cache_folder
from harness.progress import Observer
from harness.results.records import SweepStatus
from harness.results.store import Store
from harness.spec.model import find_model
from harness.spec.sweep import SweepSpec
from harness.sweep.beginning import begin_sweep, carry_on_sweep
from harness.sweep.carrying_on import changed_settings, changes_sentence
from harness.sweep.context import SweepContext
from harness.sweep.crew import Crew
from harness.sweep.plan import Waves, at_once
from harness.sweep.scheduling import scheduling_of
from harness.sweep.site import AdbSite, Site
from harness.sweep.variants import Variants, make_variants

FLOAT_RECIPE = "fp32"
AS_IS_RECIPE = "as-is"


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
        waves: Waves = at_once,
        site: Site | None = None,
    ) -> None:
        """`stop` ends the sweep early when it is set; `waves` divides what has not enough time.

        `site` is where the phones are; by default the adb servers that the spec names.
        """
        self._store = store
        self._store.tell = observer.warn
        self._observer = observer
        self._registry = registry or ToolRegistry()
        self._stop = stop or threading.Event()
        self._waves = waves
        self._site = site

    def run(
        self, spec: SweepSpec, devices: Sequence[str], *, resume: str | None = None, takes_new: bool = False
    ) -> SweepOutcome:
        """Run a sweep on devices by name, and with `takes_new` on phones that are attached meanwhile.

        Raises `HarnessError` only for what stops the whole of it.
        """
        if resume:
            changes = changed_settings(self._store.find_sweep(resume), spec)  # refused before any work is done
            self._observer.note(changes_sentence(resume, changes))
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
            carry_on_sweep(self._store, sweep_id, spec)
        self._store_variants(sweep_id, variants)
        if not variants.made:
            self._store.finish_sweep(sweep_id, SweepStatus.FINISHED)
            raise NothingToRunOnError(
                f"No variant of {spec.model} could be made: {variants.failed[0].failure.message}",
                variants.failed[0].failure.advice,
            )
        scheduling = scheduling_of(
            spec, self._store, sweep_id, devices=len(devices), stop=self._stop,
            evidence_sha256=evidence.sha256 if evidence else None,
        )  # fmt: skip
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
        site = self._site or AdbSite(spec.hosts)
        status = self._measure(context, devices, site, takes_new=takes_new)
        self._store.finish_sweep(sweep_id, status)
        return SweepOutcome(sweep_id, status, tuple(site.unreached(devices)))

    def _store_variants(self, sweep_id: str, variants: Variants) -> None:
        for variant in variants.made:
            self._store.add_variant(sweep_id, variant.card)
        for failed in variants.failed:
            self._store.add_variant_failure(sweep_id, failed.recipe, failed.failure)

    def _measure(
        self, context: SweepContext, devices: Sequence[str], site: Site, *, takes_new: bool = False
    ) -> SweepStatus:
        """Measure the devices. Ctrl-C lets what is under way finish and starts nothing more."""
        arrivals = site.arrivals(takes_new=takes_new)
        crew = Crew(lambda name: site.measure(context, name), arrivals, self._stop, self._observer.note)
        crew.work(devices)
        return SweepStatus.INTERRUPTED if self._stop.is_set() else SweepStatus.FINISHED


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
