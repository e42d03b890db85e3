"""Tools that print nonsense, leave processes, write wrong outputs, or are swapped on the phone."""

from __future__ import annotations

import shutil
import time

from hostile_tries.bench import GOOD, MODEL, ROOT, Bench, attempt, block, no_number

UNREADABLE = "tool_output_unreadable"
OUTPUT = """
for argument; do
  case $argument in
  --output_filepath=*) output=${argument#*=} ;;
  --input_layer_shape=*) shape=${argument#*=} ;;
  esac
done
samples=${shape%%,*}
"""
"""`$output` is where the tool writes what it makes of `$samples` samples of 40 bytes each."""


@attempt(1, "the tool prints nan", "never a number")
def nan(bench: Bench) -> None:
    (row,) = bench.sweep(log=block("nan")).is_clean(1).rows
    no_number(row, UNREADABLE)


@attempt(2, "the tool prints 1e-9 us", "only what a process can have measured is a number")
def far_too_fast(bench: Bench) -> None:
    (row,) = bench.sweep(log=block("1e-09")).is_clean(1).rows
    no_number(row, UNREADABLE)


@attempt(3, "one process prints two results, the second faster", "one process, one result")
def two_results(bench: Bench) -> None:
    (row,) = bench.sweep(log=GOOD + block(1.5)).is_clean(1).rows
    no_number(row, UNREADABLE)


@attempt(4, "the tool prints 40 MB of noise per process", "bounded time and memory", slow=True)
def noise(bench: Bench) -> None:
    started = time.monotonic()
    (row,) = bench.sweep("head -c 40000000 /dev/urandom").is_clean(1).rows
    no_number(row, UNREADABLE, "timeout")
    assert time.monotonic() - started < 120


@attempt(5, "the tool prints 10 MB of a sentence that patterns look for", "bounded time", slow=True)
def expensive_lines(bench: Bench) -> None:
    line = "Explicitly applied " * 50
    started = time.monotonic()
    (row,) = bench.sweep(f"yes '{line}' | head -c 10000000").is_clean(1).rows
    no_number(row, UNREADABLE, "timeout")
    assert time.monotonic() - started < 120


@attempt(6, "the tool leaves a child in a session of its own", "nothing runs next to later processes")
def session_of_its_own(bench: Bench) -> None:
    (row,) = bench.sweep("setsid sleep 987.1 >/dev/null 2>&1 </dev/null &").is_clean().rows
    assert row["invocations_ok"] == 5, row
    left = bench.device.run_script("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout_s=20).stdout
    assert "987.1" not in left, "the child still runs"


@attempt(7, "a child in the background keeps the tool's stdout", "time limit, and it is killed", slow=True)
def keeps_stdout(bench: Bench) -> None:
    (row,) = bench.sweep("sleep 987.2 &", limit_s=5).is_clean(1).rows
    no_number(row, "timeout")
    left = bench.device.run_script("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout_s=20).stdout
    assert "987.2" not in left, "the child still runs"


@attempt(8, "all outputs are zero", "never ranked")
def zeros(bench: Bench) -> None:
    (row,) = bench.sweep(f"{OUTPUT}[ $output ] && head -c $((samples * 40)) /dev/zero >$output", samples=4).rows
    assert (row["rank"], row["verdict"]) == (None, "wrong_output"), row["verdict"]


@attempt(9, "the file of outputs is empty", "never ranked")
def empty_outputs(bench: Bench) -> None:
    (row,) = bench.sweep(f"{OUTPUT}[ $output ] && : >$output", samples=4).rows
    assert (row["rank"], row["verdict"]) == (None, "unchecked"), row["verdict"]


@attempt(10, "the outputs are 4 bytes short", "never ranked, with the size")
def short_outputs(bench: Bench) -> None:
    (row,) = bench.sweep(f"{OUTPUT}[ $output ] && head -c $((samples * 40 - 4)) /dev/zero >$output", samples=4).rows
    assert row["rank"] is None
    assert "bytes" in row["failure_message"], row["failure_message"]


@attempt(11, "the outputs are a sparse file of 20 GB", "not fetched; the disk of this host stays free")
def sparse_outputs(bench: Bench) -> None:
    (row,) = bench.sweep(f"{OUTPUT}[ $output ] && truncate -s 20g $output", samples=4).rows
    assert row["rank"] is None
    assert row["failure_class"] not in ("device_lost", "device_offline"), row["failure_message"]
    assert "more than" in row["failure_message"], row["failure_message"]


@attempt(12, "60 MB of outputs over a cable of 300 kB/s", "every call has a limit as a whole", slow=True)
def slow_outputs(bench: Bench) -> None:
    command = bench.sweep_command(f"{OUTPUT}[ $output ] && head -c 60000000 /dev/zero >$output", samples=4)
    bench.phone.faults.slow_cable(300_000)
    started = time.monotonic()
    (row,) = bench.cli(*command).is_clean().rows
    assert (row["rank"], row["verdict"]) == (None, "unchecked"), row["verdict"]
    assert time.monotonic() - started < 180
    bench.device.run_script("head -c 60000000 /dev/zero >/data/large", timeout_s=20)
    _pull_late(bench)


def _pull_late(bench: Bench) -> None:
    """Pull what takes 200 s, with a limit of 5 s: no size that is expected ends it first."""
    from harness.errors import DeviceError

    device, started = bench.device, time.monotonic()
    try:
        device.pull("/data/large", bench.new_folder() / "large", timeout_s=5)
    except DeviceError as error:
        assert "time limit" in str(error), error
    else:
        raise AssertionError("pulled, whatever the limit")
    assert time.monotonic() - started < 15


OTHER = f"printf '#!/system/bin/sh\\ncat <<END\\n%s\\nEND\\n' '{block(2)}' >$0.new; chmod 755 $0.new; mv $0.new $0"
MODEL_PATH = "for argument; do case $argument in --graph=*) model=${argument#*=} ;; esac; done\n"


@attempt(14, "the tool on the phone is replaced in mid-sweep", "tampered, never ranked")
def swapped_tool(bench: Bench) -> None:
    (row,) = bench.sweep(f"[ $count = 3 ] && {{ {OTHER}; }}", invocations=8).is_clean(1).rows
    no_number(row, "tampered")


@attempt(15, "the variant on the phone is replaced by another valid file", "tampered, never ranked")
def swapped_variant(bench: Bench) -> None:
    other = ROOT / "tests/accuracy/data/flatten-float.tflite"
    if not other.exists():
        other = next(path for path in sorted(MODEL.parent.glob("*.tflite")) if path != MODEL)
    shutil.copyfile(other, bench.phone.processes.inside("data/other.tflite"))
    (row,) = bench.sweep(f"{MODEL_PATH}[ $count = 3 ] && cp /data/other.tflite $model", invocations=8).is_clean(1).rows
    no_number(row, "tampered")


@attempt(16, "the variant on the phone is overwritten with noise", "never ranked")
def corrupted_variant(bench: Bench) -> None:
    (row,) = bench.sweep(f"{MODEL_PATH}[ $count = 3 ] && head -c 900 /dev/urandom >$model").is_clean(1).rows
    no_number(row, "tampered", "invalid_model")


@attempt(17, "the session after such a swap", "pushes again and is right")
def after_the_swap(bench: Bench) -> None:
    bench.sweep(f"{MODEL_PATH}[ $count = 3 ] && head -c 900 /dev/urandom >$model").is_clean(1)
    (row,) = bench.resume().rows
    assert row["latency_median_us"] == 900, row
    blob = bench.blob(MODEL)
    assert bench.device.sha256s([blob])[blob] == blob.rpartition("/")[2]
