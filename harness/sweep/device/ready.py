"""A device made ready for measuring: prepared, with the tool pushed and the cores chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from harness.benchmark.program import push_tool, tool_files
from harness.benchmark.registry import with_flags
from harness.benchmark.tool import Tool
from harness.devices.cores import MeasuredCores, choose_measured_cores
from harness.devices.device import Device, DeviceFacts, DeviceKind
from harness.devices.preparation.knobs import knobs_of
from harness.devices.preparation.preparation import Preparation
from harness.devices.profiles import match_profile
from harness.devices.state.labels import preflight_labels
from harness.devices.state.reference_workload import ReferenceWorkload
from harness.devices.state.telemetry import read_telemetry
from harness.devices.state.thermal_gate import ThermalGate, ThermalLimits
from harness.errors import DeviceError, FailureError
from harness.spec.profile import DeviceProfile
from harness.spec.sweep import MeasurementSettings
from harness.store.records import Cell
from harness.sweep.context import SweepContext
from harness.sweep.device.gated_tool import GatedTool
from harness.sweep.device.progress import DeviceProgress
from harness.sweep.device.recovery import DeviceRecovery
from harness.sweep.plan import measured_by, mode_of
from harness.sweep.resume import labels_so_far, require_same_system
from harness.tflite.variant import Variant


@dataclass(frozen=True)
class ReadyDevice:
    """One device of a sweep, with everything that is fixed before its first invocation."""

    context: SweepContext
    device: Device
    facts: DeviceFacts
    profile: DeviceProfile
    preparation: Preparation
    tool: Tool
    tool_path: str
    """Where the tool lies on the device."""
    cores: MeasuredCores
    gated_tool: GatedTool
    recovery: DeviceRecovery
    progress: DeviceProgress

    @property
    def planned_measurement(self) -> MeasurementSettings:
        """The settings of the spec without the passes that the tool does not offer."""
        return measured_by(self.tool, self.context.spec.measurement)

    def cells_of(self, *variants: Variant) -> list[Cell]:
        """Return the cells that measure some variants on this device."""
        return [
            self._cell(variant, delegate, threads)
            for variant in variants
            for delegate in self.context.spec.delegates or self.profile.delegates
            for threads in self.context.spec.threads
        ]

    def _cell(self, variant: Variant, delegate: str, threads: int) -> Cell:
        return Cell(
            variant_sha256=variant.sha256,
            variant_name=variant.name,
            serial=self.device.serial,
            delegate=delegate,
            threads=threads,
            tool_sha256=self.tool.sha256,
            core_mask=self.cores.mask,
            profile=self.profile.name,
            mode={**mode_of(self.context.spec.measurement), "prepared": self.preparation.labels},
        )


@contextmanager
def ready_device(
    context: SweepContext,
    device: Device,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] | None = None,
) -> Iterator[ReadyDevice]:
    """Prepare a device for a `with` block, then restore it.

    `clock` and `sleep` time the waits for a cool device; by default the end of the sweep ends them. Raises
    `DeviceError` if the device cannot be used, and `DeviceAbandonedError` if it does not come back.
    """
    recovery = DeviceRecovery(context, device)
    facts = recovery.retry(device.facts, "facts")
    profile = match_profile(facts)
    is_prepared = context.spec.prepare and facts.kind is not DeviceKind.HOST
    preparation = Preparation(
        device,
        knobs_of(profile.prepare) if is_prepared else [],
        report=context.observer.warn,
        wait_until_back=recovery.wait_until_back,
    )
    try:
        with ExitStack() as stack:
            recovery.retry(lambda: stack.enter_context(preparation), "preparation")
            recovery.preparation = preparation
            progress = recovery.progress = DeviceProgress(context.observer, facts)
            _register(context, recovery, device, facts, profile)
            _store_preparation(context, device, preparation)
            recovery.retry(recovery.files.check_earlier, "files")
            chosen = context.registry.choose(facts)
            tool, tool_path = recovery.retry(lambda: _pushed_tool(context, device, chosen), "tool")
            context.store.add_tool(context.sweep_id, tool)
            recovery.files.add(tool.sha256, tool_files(device, tool, tool_path))
            cores = recovery.retry(lambda: choose_measured_cores(device, profile.cores), "cores")
            if cores.reason and facts.kind is not DeviceKind.HOST:
                context.observer.note(cores.reason)
            gate = _thermal_gate(device, profile, cores, progress, clock, sleep or context.stop.wait)
            gated_tool = GatedTool(
                device,
                tool,
                tool_path,
                gate,
                cores.cores,
                timeout_s=context.spec.measurement.timeout_s,
                sample=device.kind is not DeviceKind.HOST,
            )
            try:
                yield ReadyDevice(
                    context,
                    device,
                    facts,
                    profile,
                    preparation,
                    tool,
                    tool_path,
                    cores,
                    gated_tool,
                    recovery,
                    progress,
                )
                recovery.retry(recovery.check_files, "files")
            except DeviceError:
                with suppress(FailureError):  # the device may still answer, and its rows may count
                    recovery.check_files()
                raise
            finally:
                progress.ended()
    finally:
        _store_preparation(context, device, preparation)


def _register(
    context: SweepContext, recovery: DeviceRecovery, device: Device, facts: DeviceFacts, profile: DeviceProfile
) -> None:
    """Store the device with its labels before anything is pushed (promise H1)."""
    store, sweep_id = context.store, context.sweep_id
    require_same_system(store, sweep_id, facts)
    stored_labels = labels_so_far(store, sweep_id, facts.serial)
    telemetry = recovery.retry(lambda: read_telemetry(device), "state")
    store.add_device(sweep_id, facts, profile.name, preflight_labels(facts, telemetry) + stored_labels)


def _store_preparation(context: SweepContext, device: Device, preparation: Preparation) -> None:
    record = preparation.as_dict() | context.faults.as_dict(device.serial) | {"host": context.host}
    context.store.set_preparation(context.sweep_id, device.serial, record)


def _pushed_tool(context: SweepContext, device: Device, tool: Tool) -> tuple[Tool, str]:
    """Push the tool; probe the flags of a binary that was never probed."""
    path = push_tool(device, tool)
    return with_flags(tool, context.registry, device, path), path


def _thermal_gate(
    device: Device,
    profile: DeviceProfile,
    cores: MeasuredCores,
    progress: DeviceProgress,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
) -> ThermalGate:
    is_host = device.kind is DeviceKind.HOST
    return ThermalGate(
        device,
        ThermalLimits.of(profile),
        cores.cores,
        clock=clock,
        sleep=sleep,
        tell=progress.cooling,
        workload=None if is_host else ReferenceWorkload(device, cores.mask, clock=clock),
    )
