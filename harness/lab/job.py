"""One phone's part of a sweep, carried to the phone's own host and done there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from harness.accuracy.on_device import CheckData
from harness.accuracy.reference import HostOutputs
from harness.benchmark.registry import ToolRegistry
from harness.errors import HarnessError
from harness.lab.phone_registry import PhoneRegistry
from harness.lab.transfer import VariantBatch, arrived, load_samples, place_of, supplied
from harness.paths import cache_folder
from harness.progress import DeviceStatus, Observer, SilentObserver
from harness.spec.sweep import SweepSpec
from harness.store.store import Store
from harness.sweep.context import Deadline, SweepContext
from harness.sweep.device.run import measure_device
from harness.sweep.fault_log import PhoneRecord
from harness.sweep.time_budget import night_groups
from harness.tflite.variant import VariantCard

PLUGIN = "harness"
"""Under this name dask's worker keeps what its host has on the shelf."""
_LOOK_EVERY_S = 0.5
_stopped: set[str] = set()
"""Runs that were interrupted where they were started."""


@dataclass(frozen=True)
class PhoneJob:
    """All that a host needs to know. It is sent as an object, so both sides are of one version."""

    run_id: str
    """Of the harness that waits for it."""
    sweep_id: str
    phone: str
    """What the host calls it."""
    label: str
    """What results call it."""
    host: str
    """What the lab calls its host."""
    results: str = field(repr=False)
    """URL of the store, which may hold a password."""
    spec: SweepSpec
    job_id: str
    """More variants are handed over to the job under this name."""
    variants: VariantBatch
    """Those that are made."""
    reference: VariantCard | None
    samples: str | None
    """Parcel of the labelled samples; None if the spec asks for no accuracy."""
    record: PhoneRecord
    """What went wrong with the phone before."""
    until_s: float | None
    """When the sweep stops, in seconds since 1970; None: when all is done."""


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended; what it measured is in the store."""

    left_work: bool
    """True if the phone went away before all was done."""
    record: PhoneRecord
    """What has gone wrong with it until now."""
    problem: str = ""
    """What keeps this host from going on, such as a store that it cannot reach."""


class JobStop(threading.Event):
    """Set when a job is to finish what is under way and end: asked for, or since nobody waits for it any more."""

    def __init__(self, is_unwanted: Callable[[], bool]) -> None:
        super().__init__()
        self._is_unwanted = is_unwanted

    def is_set(self) -> bool:
        """Return True if nothing more may be started."""
        return super().is_set() or self._is_unwanted()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _LOOK_EVERY_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return False
            super().wait(min(left_s, _LOOK_EVERY_S))
        return True


def run_job(job: PhoneJob) -> JobOutcome:
    """Do a job inside a worker of dask's.

    It stops by itself when the worker has lost its scheduler, or the one who asked is gone: then nobody would take
    notice of what comes next, and another job for the same phone may be on its way. What was finished stays good.
    """
    from distributed import get_worker

    worker = get_worker()
    shelf: PhoneRegistry = worker.plugins[PLUGIN].shelf
    key = worker.get_current_task()
    deadline = Deadline(job.until_s)

    def is_unwanted() -> bool:
        task = worker.state.tasks.get(key)
        is_waited_for = task is not None and task.state in ("executing", "long-running")
        is_told_to_end = job.run_id in _stopped or shelf.closing.is_set() or deadline.is_set()
        return is_told_to_end or worker.status.name != "running" or not is_waited_for

    observer = SendingObserver(lambda message: worker.log_event(job.run_id, message))
    return do_job(job, shelf, observer, JobStop(is_unwanted))


def do_job(job: PhoneJob, shelf: PhoneRegistry, observer: Observer, stop: JobStop) -> JobOutcome:
    """Measure the phone into the store, under its host's lease."""
    try:
        with (
            shelf.taking(job.phone, stop),
            Store.open(job.results, must_exist=True) as store,
            supplied(job.job_id, job.variants, stop) as variants,
        ):
            context = SweepContext(
                job.sweep_id,
                job.spec,
                variants,
                _evidence(job),
                store,
                ToolRegistry(),
                observer,
                stop,
                groups=night_groups(store, job.spec, Deadline(job.until_s), observer),
                host=job.host,
            )
            context.faults.take_over(job.label, job.record)
            left_work = measure_device(context, job.phone, label=job.label)
            return JobOutcome(left_work, context.faults.record_of(job.label))
    except HarnessError as error:
        return JobOutcome(left_work=True, record=job.record, problem=f"{error} {error.advice}".rstrip())


def stop_run(run_id: str) -> None:
    """End all jobs of a run on this host: what is under way is finished."""
    _stopped.add(run_id)


def _evidence(job: PhoneJob) -> CheckData | None:
    if job.samples is None:
        return None
    reference = arrived(job.reference) if job.reference else None
    outputs = HostOutputs(cache_folder() / "reference")
    return CheckData(load_samples(place_of(job.samples)), outputs, reference, job.spec.output_limits)


_STATUS = TypeAdapter(DeviceStatus)
Message = dict[str, Any]


class SendingObserver(SilentObserver):
    """Turns events into plain messages. A host's jobs make no variants, so there are no bars."""

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send

    def note(self, text: str) -> None:
        """Send one sentence."""
        self._send({"note": text})

    def warn(self, text: str) -> None:
        """Send one sentence about something that went wrong."""
        self._send({"warn": text})

    def show(self, status: DeviceStatus) -> None:
        """Send where a device is."""
        self._send({"show": _STATUS.dump_python(status, mode="json")})


def pass_on(message: Message, observer: Observer) -> None:
    """Repeat to an observer here what one on another host received. Raises `ValidationError` for what is no message."""
    for kind, content in message.items():
        if kind == "note":
            observer.note(str(content))
        elif kind == "warn":
            observer.warn(str(content))
        elif kind == "show":
            observer.show(_STATUS.validate_python(content))
