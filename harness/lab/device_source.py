"""The phones of a lab as the place where a sweep's phones are."""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pydantic import ValidationError

from harness.accuracy.on_device import CheckData
from harness.benchmark.registry import ToolRegistry
from harness.devices.device_ref import DeviceRef, RefKind
from harness.errors import Failure, FailureClass, HarnessError, MissingPrerequisiteError, UsageError
from harness.lab.client import HostLostError, Lab, LabHost, joined
from harness.lab.engine import version
from harness.lab.job import JobOutcome, Message, PhoneJob, pass_on, run_job, stop_run
from harness.lab.transfer import (
    TransferFile,
    VariantBatch,
    VariantDelivery,
    complete,
    hand_over,
    keep_piece,
    lacking,
    pieces,
    save_samples,
)
from harness.paths import cache_folder
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.location import find_location
from harness.sweep.context import Deadline, SweepContext
from harness.sweep.device_source import AdbSource, DeviceSource
from harness.sweep.targets import DeviceCheck, Targets

STALE_S = 6.0
"""What is known of a phone here is no older: its host looks, a heartbeat carries that, and it is asked for again."""


@dataclass(frozen=True)
class LabPhone:
    """One phone of the lab."""

    name: str
    """What results call it: its serial, or `SERIAL@HOST` for one whose serial means something only there."""
    phone: str
    """What its host calls it."""
    host: LabHost
    identity: str
    is_free: bool


@contextmanager
def open_source(lab: str | None, results: str, spec: SweepSpec, observer: Observer) -> Iterator[DeviceSource]:
    """Return where a sweep's phones are, for a `with` block: in the lab at this address, or else reached from here.

    Raises `UsageError` for a sweep that the hosts of a lab cannot do together, and what `joined` does.
    """
    if lab is None:
        yield AdbSource(spec.hosts)
        return
    _require_sharing(results, spec)
    with joined(lab) as connection:
        yield LabSource(connection, results, observer)


def _require_sharing(results: str, spec: SweepSpec) -> None:
    if not find_location(results).is_shared:
        raise UsageError(
            f"The hosts of a lab cannot write into {results}.",
            "Name a PostgreSQL database that all of them reach: --results postgresql+psycopg://USER@HOST/DATABASE.",
        )
    if spec.hosts:
        raise UsageError("--lab and hosts exclude each other.", "Name the lab, or the adb servers.")
    if spec.per == "model":
        raise UsageError(
            'per = "model" shares cells between the phones of one computer, and not of a lab.',
            'Use per = "device", or name the adb servers with --host instead of --lab.',
        )
    if unfit := [name for name in spec.devices if DeviceRef.parse(name).kind is not RefKind.ADB]:
        raise UsageError(f"{unfit[0]} is no phone of a lab.", "Name phones by their serials, or none for all of them.")


class LabSource:
    """Phones that their own hosts measure; the sweep is planned, and its variants are made, where it was started."""

    def __init__(self, lab: Lab, results: str, observer: Observer) -> None:
        """`results` is the URL of a store that every host reaches; `observer` receives what happens on them."""
        self._lab = lab
        self._results = results
        self._observer = observer
        self._run_id = f"harness-{uuid.uuid4().hex}"
        self._identities: dict[str, str] = {}
        self._lost_at: dict[str, float] = {}
        self._refused: set[str] = set()
        self._sending: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._samples: TransferFile | None = None
        self._samples_lock = threading.Lock()
        lab.listen(self._run_id, self._hear)

    def _hear(self, message: Message) -> None:
        with suppress(ValidationError):  # of another program
            pass_on(message, self._observer)

    def targets(self, asked: Sequence[str]) -> Targets:
        """Return the phones that were asked for, else all of the lab. Raises `MissingPrerequisiteError` without any."""
        if asked:
            return Targets(tuple(asked))
        phones = self.phones()
        if not phones:
            hosts = self._lab.hosts()
            told = "; ".join(f"{host.name}: {host.announcement.problem}" for host in hosts if host.announcement.problem)
            raise MissingPrerequisiteError(
                f"No phone is ready on any host of the lab ({', '.join(host.name for host in hosts)}). {told}".rstrip(),
                "Run `harness devices` on a host to see what each phone needs.",
            )
        return Targets(tuple(phones), takes_new=True)

    def check(self, names: Sequence[str], registry: ToolRegistry) -> list[DeviceCheck]:
        """Return each phone without a problem: its host looks, and has tools of its own."""
        return [DeviceCheck(name) for name in names]

    def phones(self) -> dict[str, LabPhone]:
        """Return the phones that are ready, by name, each once. Raises `HostLostError` without the scheduler."""
        found: dict[str, LabPhone] = {}
        seen: set[str] = set()
        for host in sorted(self._lab.hosts(), key=lambda host: host.name):
            if host.announcement.version != version():
                self._refuse(host)
                continue
            for shelved in host.announcement.phones:
                name = f"{shelved.name}@{host.name}" if DeviceRef(shelved.name).is_relative else shelved.name
                if shelved.identity not in seen and name not in found:
                    found[name] = LabPhone(name, shelved.name, host, shelved.identity, shelved.is_free)
                seen.add(shelved.identity)
        self._identities |= {phone.name: phone.identity for phone in found.values()}
        return found

    def _refuse(self, host: LabHost) -> None:
        if host.address not in self._refused:
            self._refused.add(host.address)
            self._observer.warn(f"{host.name} runs harness {host.announcement.version}: its phones are left out.")

    def arrivals(self, *, takes_new: bool) -> NewLabPhones:
        """Return who asks the scheduler."""
        return NewLabPhones(self, takes_new=takes_new)

    def identities(self, names: Collection[str]) -> set[str]:
        """Return what tells the named phones from all others, of those that were ever seen."""
        return {self._identities[name] for name in names if name in self._identities}

    def unreached(self, names: Collection[str]) -> list[str]:
        """Return nothing: which hosts should be there is not known."""
        return []

    def is_news(self, name: str) -> bool:
        """Return True if what is known of a phone was seen after it was lost."""
        return time.monotonic() - self._lost_at.get(name, float("-inf")) > STALE_S

    def measure(self, context: SweepContext, name: str) -> bool:
        """Send a phone's part of the sweep to its host, and wait until it is done or the host is lost."""
        left_work = self._measure_or_fail(context, name)
        if left_work:
            self._lost_at[name] = time.monotonic()
        return left_work

    def _measure_or_fail(self, context: SweepContext, name: str) -> bool:
        try:
            phone = self.phones().get(name)
            if phone is None:
                raise HostLostError("no host of the lab has it ready")
            outcome = self._measure(context, phone)
        except HostLostError as error:
            return self._lose(context, name, f"{name}: {error}.")
        if outcome.problem:
            return self._lose(context, name, f"{name}: {phone.host.name}: {outcome.problem}")
        return outcome.left_work

    def _lose(self, context: SweepContext, name: str, message: str) -> bool:
        """Store why a phone was lost with its host; return whether it is resumed when it is back."""
        failure = Failure(FailureClass.DEVICE_LOST, message)
        quarantine = context.faults.judge(name, failure)
        self._observer.warn((quarantine or failure).message)
        context.store.add_device_failure(context.sweep_id, name, quarantine or failure)
        return quarantine is None

    def _measure(self, context: SweepContext, phone: LabPhone) -> JobOutcome:
        delivery = VariantDelivery(context.variants)
        first = delivery.due() or VariantBatch((), is_open=True, is_complete=False)
        reference = context.evidence.float_variant if context.evidence else None
        job = PhoneJob(
            run_id=self._run_id,
            job_id=uuid.uuid4().hex,
            sweep_id=context.sweep_id,
            phone=phone.phone,
            label=phone.name,
            host=phone.host.name,
            results=self._results,
            spec=context.spec,
            variants=first,
            reference=reference.card if reference else None,
            samples=self._saved(context.evidence).name if context.evidence else None,
            record=context.faults.record_of(phone.name),
            until_s=context.stop.at_s if isinstance(context.stop, Deadline) else None,
        )
        stopping: list[object] = []

        def keep_up() -> None:
            if context.stop.is_set() and not stopping:
                stopping.append(self._lab.start(phone.host, stop_run, self._run_id))
            if batch := delivery.due():
                self._send(phone.host, self._parcels(context))
                if self._lab.do(phone.host, hand_over, job.job_id, batch, while_waiting=_nothing):
                    delivery.given(batch)

        delivery.given(first)
        try:
            self._send(phone.host, self._parcels(context))
            outcome = self._lab.do(phone.host, run_job, job, while_waiting=keep_up)
        except HarnessError as error:  # such as a full disk on that host
            return JobOutcome(left_work=True, record=context.faults.record_of(phone.name), problem=str(error))
        context.faults.take_over(phone.name, outcome.record)
        return outcome

    def _parcels(self, context: SweepContext) -> list[TransferFile]:
        variants = list(context.variants.ready)
        if context.evidence and context.evidence.float_variant:
            variants.append(context.evidence.float_variant)
        parcels = {variant.sha256: TransferFile(variant.sha256, variant.path) for variant in variants}
        samples = [self._saved(context.evidence)] if context.evidence else []
        return [*parcels.values(), *samples]

    def _saved(self, evidence: CheckData) -> TransferFile:
        """Return the labelled samples, which are the same for every phone, as a file."""
        with self._samples_lock:
            if self._samples is None:
                self._samples = TransferFile(*save_samples(evidence.samples, cache_folder() / "lab"))
            return self._samples

    def _send(self, host: LabHost, parcels: Sequence[TransferFile]) -> None:
        """Send what a host does not have yet; phones of one host wait here for one another."""
        with self._sending[host.address]:
            names = self._lab.do(host, lacking, [parcel.name for parcel in parcels], while_waiting=_nothing)
            for parcel in parcels:
                if parcel.name in names:
                    for offset, piece in pieces(parcel):
                        self._lab.do(host, keep_piece, parcel.name, self._run_id, offset, piece, while_waiting=_nothing)
                    self._lab.do(host, complete, parcel.name, self._run_id, while_waiting=_nothing)


class NewLabPhones:
    """Phones that come, or come back, while a sweep runs on a lab."""

    def __init__(self, site: LabSource, *, takes_new: bool) -> None:
        """`takes_new`: whether the sweep is of all phones of the lab, and not of those that were named."""
        self._site = site
        self._takes_new = takes_new

    def returned(self, parked: Collection[str]) -> list[str]:
        """Return which phones are ready again, and not measured by anybody else."""
        free = self._free()
        return [name for name in parked if name in free and self._site.is_news(name)]

    def newcomers(self, known: Collection[str]) -> list[str]:
        """Return phones that are free, and not known under another name."""
        if not self._takes_new:
            return []
        taken = self._site.identities(known)
        return [name for name, phone in self._free().items() if name not in known and phone.identity not in taken]

    def _free(self) -> dict[str, LabPhone]:
        try:
            return {name: phone for name, phone in self._site.phones().items() if phone.is_free}
        except HostLostError:  # the scheduler is away, and asked again at the next look
            return {}


def _nothing() -> None:
    """Wait without doing anything meanwhile."""
