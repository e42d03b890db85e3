"""A sweep of one cell on a phone to which something happens, and what is to be seen of it afterwards."""

import gc
import threading
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import psutil
from experiments.injected_faults import commands_on
from results_examples import card
from scripted_sweep import LOG, ScriptedSweep
from traps import BEGUN, HELD_S, HOLD

from harness.accuracy.on_device import CheckData
from harness.datasets.labelled import Samples
from harness.devices.adb.device import WORK_FOLDER
from harness.tflite.variant import TensorType, Variant

INVOCATIONS = 5
PLAN = Counter([("accuracy", 0), *(("latency", index) for index in range(INVOCATIONS))])
ENDS_WITHIN_S = 120
SETTLES_WITHIN_S = 10
OVERLAPS, RUNNING = "data/overlaps", "data/running"
TOOL = f"""
read earlier </{RUNNING} && grep -q graph= /proc/$earlier/cmdline && echo "$earlier $$" >>/{OVERLAPS}
echo $$ >/{RUNNING}
for argument; do
  case $argument in
    --input_layer_value_files=*) input=${{argument#*:}} ;;
    --output_filepath=*) output=${{argument#*=}} ;;
  esac
done
if [ -n "$output" ]; then
  cp "$input" "$output" || exit 1
  echo '{LOG.format(runs=1)}'
  exit
fi
if [ -e /{HOLD} ]; then
  echo >/{BEGUN}
  n=0
  while [ $n -lt {int(HELD_S / 0.05)} ]; do sleep 0.05; n=$((n + 1)); done
fi
"""
"""A model that gives its input back. A process that finds another of its kind running says so."""


class SameAsInput:
    """What the host computes from that model."""

    def outputs(self, _variant, samples):
        return samples.inputs


class FaultySweep(ScriptedSweep):
    """One cell with its accuracy pass and five timed processes, on prepared phones."""

    def __init__(self, folder, reconnect_wait_s):
        super().__init__(folder, TOOL, {"timeout_s": 4 * HELD_S}, reconnect_wait_s=reconnect_wait_s)
        tensor = TensorType(name="x", shape=(1, 8), type="float32")
        described = card("int8").model_copy(update={"inputs": (tensor,), "outputs": (tensor,)})
        self.variants = [Variant(self.variants[0].path, described)]
        inputs = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
        self.evidence = CheckData(Samples((inputs,), None), SameAsInput(), None)

    def run_to_its_end(self, *serials):
        """Run it beside the test: a sweep that hangs fails the test instead of stopping it."""
        thread = threading.Thread(target=self.run_as_the_program_does, args=serials)
        thread.start()
        thread.join(ENDS_WITHIN_S)
        if thread.is_alive():
            self.stop.set()
            raise AssertionError("the sweep did not end by itself")

    def carry_on(self, serial, reconnect_wait_s):
        """Do as `--resume` does, with another patience."""
        self.spec = self.spec.model_copy(update={"reconnect_wait_s": reconnect_wait_s})
        self.run_to_its_end(serial)

    def good(self, serial):
        """Count the good rows by their places in the plan; the accuracy pass has one."""
        return Counter(place for place, failure in self._attempts(serial) if failure is None)

    def failures(self, serial):
        """Return the classes of the attempts that failed."""
        return [failure for _, failure in self._attempts(serial) if failure]

    def _attempts(self, serial):
        keys = {cell["key"] for cell in self.cells if cell["serial"] == serial}
        rows = [(("accuracy", 0), row) for row in self.accuracies]
        rows += [((row["purpose"], row["invocation_index"]), row) for row in self.invocations]
        return [(place, row["failure_class"]) for place, row in rows if row["cell_key"] in keys]

    def device_failure(self, serial):
        return next((row["failure_class"] for row in self.devices if row["serial"] == serial), None)

    def rows(self):
        """Return every stored attempt, to see that none changes."""
        return {("invocation", row["id"]): row for row in self.invocations} | {
            ("accuracy", row["id"]): row for row in self.accuracies
        }


def stray_files(phone):
    """Return what lies in harness's folder on a phone besides whole files under the names of their contents."""
    folder = phone.processes.inside(WORK_FOLDER.removeprefix("/"))
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if not file.startswith("blobs/") or file.endswith(".part")]


@dataclass(frozen=True)
class Held:
    """What this process holds, and what runs on phones."""

    threads: frozenset[str]
    children: frozenset[int]
    file_descriptors: int
    on_phones: tuple[str, ...]

    @classmethod
    def now(cls, *phones):
        gc.collect()
        process = psutil.Process()
        commands = [" ".join(command.cmdline()) for phone in phones for command in commands_on(phone)]
        return cls(
            frozenset(thread.name for thread in threading.enumerate()),
            frozenset(child.pid for child in process.children() if child.status() != psutil.STATUS_ZOMBIE),
            process.num_fds(),
            tuple(commands),
        )


def settled(look, wanted):
    """Return what is seen once it is as wanted, or after some time: what ends takes a moment."""
    deadline = time.monotonic() + SETTLES_WITHIN_S
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen
