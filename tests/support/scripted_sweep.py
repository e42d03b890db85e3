"""Sweeps on a virtual phone with a tool that is a script, so that a test decides what happens while it runs."""

import threading
from dataclasses import dataclass, field

import pandas as pd
from results_examples import SWEEP, card, sweep_record
from stored_tables import frame

from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.files import sha256_of
from harness.progress import DeviceEvent, DeviceStatus, SilentObserver
from harness.spec.sweep import load_sweep_spec
from harness.store.store import Store
from harness.sweep.context import SweepContext
from harness.sweep.device.measure import measure_cells
from harness.sweep.device_source import AdbSource
from harness.sweep.runner import SweepRunner
from harness.sweep.sharing import scheduling_of
from harness.sweep.variants import VariantQueue
from harness.tflite.variant import Variant
from harness.virtual_phone.recording import host_abi

RUNS = 10
SECONDS = 0.03
"""How long a scripted tool takes: a process that is over before its own figures could be is no measurement."""
FLAGS = (
    "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs report_peak_memory_footprint "
    "use_xnnpack use_gpu use_nnapi input_layer input_layer_shape input_layer_value_files output_filepath"
)
LOG = """\
STARTING!
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=4 first=1500 curr=1000 min=990 max=1500 avg=1100 std=9
Running benchmark for at least {runs} iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count={runs} first=1000 curr=1000 min=900 max=1100 avg=1000 std=10
Inference timings in us: Init: 5000, First inference: 1500, Warmup (avg): 1100, Inference (avg): 1000
Memory footprint delta from the start of the tool (MB): init=1.5 overall=4.5
"""

TOOL_WITH_CACHE = """
for argument; do
  case $argument in
  --xnnpack_weight_cache_file_path=*) cache=${argument#*=} ;;
  --warmup_runs=*) warmup=${argument#*=} ;;
  --num_runs=*) runs=${argument#*=} ;;
  esac
done
init=9000
[ -n "$cache" ] && [ -e "$cache" ] && init=2000
[ -n "$cache" ] && echo packed >"$cache"
sleep 0.03
cat <<END
STARTING!
Running benchmark for at least $warmup iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=$warmup first=1500 curr=1000 min=990 max=1500 avg=1100 std=9
Running benchmark for at least $runs iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=$runs first=1000 curr=1000 min=900 max=1100 avg=1000 std=10
Inference timings in us: Init: $init, First inference: 1500, Warmup (avg): 1100, Inference (avg): 1000
END
exit
"""
"""What runs as many runs as it is told, and loads faster from a cache."""


def script_tool(script, **more):
    """Return a script as the tool of virtual phones; `more` are further fields."""
    known = {"flags": frozenset(FLAGS.split()), "origin": "test", **more}
    return Tool(
        name="benchmark_model",
        family=ToolFamily.INTERPRETER,
        system=ToolSystem.VIRTUAL_PHONE,
        abi=host_abi(),
        sha256=sha256_of(script),
        path=script,
        **known,
    )


class OneTool:
    """A registry that knows one tool."""

    def __init__(self, tool):
        self._tool = tool

    def choose(self, _facts):
        return self._tool


@dataclass
class Notebook(SilentObserver):
    """An observer that writes down what it is told."""

    notes: list[str] = field(default_factory=list)
    statuses: list[DeviceStatus] = field(default_factory=list)

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.notes.append(text)

    def show(self, status):
        self.statuses.append(status)

    @property
    def waits(self):
        """Why the device was waited for, at each look."""
        return [f"cooling: {status.reason}" for status in self.statuses if status.news is DeviceEvent.COOLING]


class ScriptedSweep:
    """One sweep of one variant on one device; `while_it_runs` is shell code that the tool runs on the phone."""

    def __init__(self, folder, while_it_runs="", measurement=None, **spec):
        script = folder / "benchmark_model"
        script.write_text(f"#!/system/bin/sh\n{while_it_runs}\nsleep {SECONDS}\necho '{LOG.format(runs=RUNS)}'\n")
        tool = script_tool(script)
        model = folder / "model.tflite"
        model.write_bytes(b"model")
        measurement = {
            "invocations": 5,
            "runs": RUNS,
            "accuracy_samples": 0,
            "memory_invocations": 0,
            "warmup_max_s": 0,
            "init_pairs": 0,
            **(measurement or {}),
        }
        self.notebook = Notebook()
        self.store = Store.open(folder / "results")
        self.store.start_sweep(sweep_record())
        self.spec = load_sweep_spec(None, {"delegates": ["cpu"], **spec, "measurement": measurement})
        self.stop = threading.Event()
        self.variants = [Variant(model, card("int8"))]
        self.supply = None
        """One that is still being filled; None: the variants are all there."""
        self.evidence = None
        self._tool = tool
        self.registry = None
        """One that knows the tool; None: made for each run."""

    def run(self, device, **seams):
        measure_cells(self._context(), device, **seams)
        return self

    def run_as_the_program_does(self, *serials, takes_new=False):
        """Leased, in threads of their own, and stopped by Ctrl-C."""
        runner = SweepRunner(self.store, self.notebook)
        self.stop = runner._stop
        site = AdbSource(self.spec.hosts)
        runner._measure(self._context(len(serials)), serials, site, takes_new=takes_new)
        return site

    def _context(self, devices=1):
        registry = self.registry or OneTool(self._tool)
        scheduling = scheduling_of(self.spec, self.store, SWEEP, devices=devices, stop=self.stop)
        supply = self.supply or VariantQueue(self.variants)
        return SweepContext(
            SWEEP,
            self.spec,
            supply,
            self.evidence,
            self.store,
            registry,
            self.notebook,
            self.stop,
            scheduling,
        )

    @property
    def invocations(self):
        return _records(frame(self.store.invocations(SWEEP)))

    @property
    def cells(self):
        return _records(frame(self.store.cells(SWEEP)))

    @property
    def accuracies(self):
        return _records(frame(self.store.accuracies(SWEEP)))

    @property
    def devices(self):
        return _records(frame(self.store.devices(SWEEP)))

    @property
    def preparation(self):
        (device,) = self.devices
        return device["preparation"]


def _records(frame):
    rows = frame.astype(object).to_dict("records")
    return [
        {key: None if pd.api.types.is_scalar(value) and pd.isna(value) else value for key, value in row.items()}
        for row in rows
    ]
