"""Measure one device of a sweep and store whatever ends it."""

from __future__ import annotations

from harness.devices.adb.discovery import reopen
from harness.devices.adb.recovery import restart
from harness.devices.device import Device, DeviceKind
from harness.devices.device_ref import label_of
from harness.devices.lease import LeaseHeldError
from harness.errors import (
    DEVICE_GONE,
    DeviceError,
    Failure,
    FailureClass,
    FailureError,
    HarnessError,
    MissingPrerequisiteError,
)
from harness.sweep.context import SweepContext
from harness.sweep.device.measure import measure_cells
from harness.sweep.retry import RULES
from harness.sweep.targets import opened


def measure_device(context: SweepContext, name: str, *, label: str | None = None) -> bool:
    """Measure one device; store what stops it as its failure, so that the other devices continue.

    `label` is its name in results, by default the one that its name implies. Returns True if it went away during its
    work. Raises `HarnessError`, and stops the sweep, if nothing further could be stored.
    """
    serial = label = label or label_of(name)
    try:
        with opened(
            name,
            context.registry,
            label=label,
            broken_gpu=context.spec.broken_gpu,
            report=context.observer.note,
        ) as device:
            serial = device.serial
            run_device(context, device)
    except LeaseHeldError as error:
        _fail_device(context, serial, error.failure)
        return True
    except FailureError as error:
        quarantine = context.faults.judge(serial, error.failure)
        _fail_device(context, serial, quarantine or error.failure)
        is_own = serial != label  # a virtual phone of this sweep's own is gone
        return error.failure.failure_class in DEVICE_GONE and not is_own and not quarantine
    except MissingPrerequisiteError as error:
        failure = Failure(FailureClass.DEVICE_LOST, str(error), error.advice)
        _fail_device(context, serial, failure)
    except HarnessError:
        context.stop.set()  # such as a full disk on this host
        raise
    return False


def _fail_device(context: SweepContext, serial: str, failure: Failure) -> None:
    context.observer.warn(failure.message)
    context.store.add_device_failure(context.sweep_id, serial, failure)


def run_device(context: SweepContext, device: Device) -> None:
    """Measure a device, restarting it if allowed. Raises `FailureError` for what ends the run."""
    try:
        measure_cells(context, device)
    except FailureError as error:
        if not _may_restart(context, device, error.failure):
            raise
        _restart(context, device, error.failure)
        # The reboot undid the preparation, and pushed files are checked again.
        run_device(context, reopen(device))


def _may_restart(context: SweepContext, device: Device, failure: Failure) -> bool:
    return (
        context.spec.may_reboot
        and not context.stop.is_set()
        and device.kind is not DeviceKind.HOST
        and RULES[failure.failure_class].is_fault
        and context.faults.may_restart(device.serial)
    )


def _restart(context: SweepContext, device: Device, reason: Failure) -> None:
    """Restart a phone and record it. Raises `FailureError` with `reason` if that fails."""
    context.observer.warn(f"{reason.message} Restarting it, as may_reboot allows.")
    try:
        restart(device, stop=context.stop)
    except DeviceError as error:
        context.observer.warn(f"The restart failed: {error.failure.message}")
        raise FailureError(reason) from error
    context.faults.restarted(device.serial, reason)
    context.observer.note(f"{device.serial} rebooted: preparing it again, then continuing.")
