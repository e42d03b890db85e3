"""Recover a device after a failure: probe it, wait for it, retry, or abandon it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from harness.devices.adb.recovery import answers, await_commands, await_device
from harness.devices.device import Device
from harness.devices.preparation.preparation import Preparation
from harness.errors import DeviceError, Failure, FailureClass, FailureError
from harness.sweep.context import SweepContext
from harness.sweep.device.progress import DeviceProgress
from harness.sweep.device.pushed_files import PushedFiles
from harness.sweep.retry import RULES, Remedy, RetryPolicy, Tries

T = TypeVar("T")


class DeviceAbandonedError(FailureError):
    """The device is unusable for now. Not a `DeviceError`, so recovery code does not catch it."""


class DeviceRecovery:
    """Carries out `RULES` on one device."""

    def __init__(self, context: SweepContext, device: Device) -> None:
        self._context = context
        self._device = device
        self.progress: DeviceProgress | None = None
        """Reports waits for the device, once it is set."""
        self.preparation: Preparation | None = None
        """Renewed when the device is back, because a reboot undoes most settings."""
        self.files = PushedFiles(context, device)
        """Looked at again when the device is back."""
        self._is_given_up = False

    def check_files(self) -> None:
        """Look at the files on the device. Raises `DeviceAbandonedError` if one changed, and `DeviceError`."""
        if failure := self.files.check():
            raise DeviceAbandonedError(failure)

    def tries(self, what: str, policy: RetryPolicy = RetryPolicy.ALL) -> Tries:
        """Return fresh tries of one operation."""
        return Tries(f"{self._context.spec.seed}/{self._device.serial}/{what}", policy)

    def retry(self, call: Callable[[], T], what: str) -> T:
        """Call until it succeeds or the rules allow no further try.

        Raises that failure's `DeviceError`, or what `recover` raises.
        """
        tries = self.tries(what)
        while True:
            try:
                return call()
            except DeviceError as error:
                self.recover(error.failure)
                pause_s = tries.failed(error.failure.failure_class)
                if pause_s is None or self._context.stop.is_set():
                    raise
                self.pause(pause_s)

    def recover(self, failure: Failure) -> None:
        """Do what a failure calls for before anything else runs on the device.

        Raises `DeviceAbandonedError` for a device that does not come back, or has had too many faults.
        """
        rule = RULES[failure.failure_class]
        if rule.remedy is Remedy.LOOK and not answers(self._device):
            message = f"{self._device.serial} is not responding after this failure: {failure.message}"
            failure = Failure(FailureClass.DEVICE_OFFLINE, message, failure.evidence)
            rule = RULES[failure.failure_class]
        if rule.is_fault:
            self._context.faults.note(self._device.serial, failure)
        if rule.remedy is Remedy.WAIT:
            self._wait(failure)
        if quarantine := self._context.faults.quarantine(self._device.serial):
            self._is_given_up = True
            raise DeviceAbandonedError(quarantine)

    def wait_until_back(self, failure: Failure) -> bool:
        """Wait for a device that goes away while it is restored; return True if it answers again.

        An abandoned device was waited for already.
        """
        if self._is_given_up or RULES[failure.failure_class].remedy is not Remedy.WAIT:
            return False
        self.preparation = None  # do not prepare again what is being restored
        try:
            self.recover(failure)
        except DeviceAbandonedError:
            return False
        return True

    def pause(self, seconds: float) -> None:
        """Wait before the next try; Ctrl-C ends it."""
        self._context.stop.wait(seconds)

    def _wait(self, failure: Failure) -> None:
        """Wait until the device answers, and prepare it again; it may be lost again meanwhile.

        Raises `DeviceAbandonedError` if the time runs out.
        """
        observer = self._context.observer
        observer.note(f"{failure.message} Waiting for it.")
        if self.progress:
            self.progress.away(failure.message)
        deadline = time.monotonic() + self._context.spec.reconnect_wait_s
        while True:
            try:
                await_device(
                    self._device, deadline=deadline, stop=self._context.stop, failure=failure, tell=observer.note
                )
            except DeviceError as error:
                self._is_given_up = True
                raise DeviceAbandonedError(error.failure) from None
            await_commands(self._device)  # the interrupted tool may still run and would disturb the next one
            try:
                if self.preparation:
                    self.preparation.renew()
                self.check_files()
                return
            except DeviceError as error:  # lost again: use the remaining time
                if time.monotonic() >= deadline:
                    self._is_given_up = True
                    raise DeviceAbandonedError(error.failure) from None
