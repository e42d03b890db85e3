"""Measure one opened device, and restart it once where it would be given up and the spec allows that."""

from __future__ import annotations

from harness.devices.adb.discovery import reopen
from harness.devices.device import Device, DeviceKind
from harness.devices.restart import restart
from harness.errors import DeviceError, Failure, FailureError
from harness.sweep.context import SweepContext
from harness.sweep.device.device_run import DeviceRun
from harness.sweep.retry import RULES


def run_device(context: SweepContext, device: Device) -> None:
    """Measure a device. Raises `FailureError` for what ends that."""
    try:
        DeviceRun(context, device).run()
    except FailureError as error:
        if not _may_restart(context, device, error.failure):
            raise
        _restart(context, device, error.failure)
        # Begun anew: the restart undid what was prepared, and what was pushed is checked again.
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
    """Restart a phone and write it down. Raises `FailureError` with `reason` where it cannot be done."""
    context.observer.warn(f"{reason.message} Restarting it, as may_reboot allows.")
    try:
        restart(device, stop=context.stop)
    except DeviceError as error:
        context.observer.warn(f"The restart failed: {error.failure.message}")
        raise FailureError(reason) from error
    context.faults.restarted(device.serial, reason)
    context.observer.note(f"{device.serial} has started again: it is prepared anew and measured on.")
