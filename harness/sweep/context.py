"""What every device of one sweep shares."""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass, field

from harness.accuracy.on_device import Evidence
from harness.benchmark.registry import ToolRegistry
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.store import Store
from harness.sweep.fault_log import FaultBook
from harness.sweep.plan import Waves, at_once
from harness.sweep.sharing import EachDevice, Scheduling
from harness.sweep.supply import VariantSupply


@dataclass(frozen=True)
class SweepContext:
    """One sweep: what is measured, into which store, and who watches."""

    sweep_id: str
    spec: SweepSpec
    variants: VariantSupply
    evidence: Evidence | None
    """Real inputs and reference outputs; None where the spec asks for no accuracy."""
    store: Store
    registry: ToolRegistry
    observer: Observer
    stop: threading.Event
    """Set when the user interrupts: what is under way is finished, nothing more is started."""
    scheduling: Scheduling = field(default_factory=EachDevice)
    waves: Waves = at_once
    host: str = field(default_factory=platform.node)
    """The computer that talks to its phones."""
    faults: FaultBook = field(init=False)
    """What went wrong with its phones."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", FaultBook(self.spec.most_faults))
