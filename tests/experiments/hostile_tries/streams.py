"""Standard streams, limits and signals of the process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from hostile_tries.bench import Bench, Ended, attempt


@attempt(35, "TMPDIR is missing; 64 files; little memory", "works, or says why not")
def limits(bench: Bench) -> None:
    bench.sweep(on_host=True, environment={"TMPDIR": "/no/such/folder"}).is_clean(0, 1)
    assert bench.show()[0]["invocations_ok"] == 5
    for limit in ("-n 64", "-v 3000000"):
        ended = bench.sweep(on_host=True, shell=f'ulimit {limit}; exec "$@"').is_clean(0, 1, 2, 3)
        assert ended.code or bench.show()[0]["invocations_ok"] == 5
        assert not ended.code or "rror: " in ended.err or bench.show()[0]["failure_message"], ended.err[-200:]


@attempt(36, "stdin and stdout are closed", "works, and the results are stored")
def closed_streams(bench: Bench) -> None:
    bench.sweep(on_host=True, shell='exec "$@" <&- >&-').is_clean(0, 1)
    assert bench.show()[0]["invocations_ok"] == 5


@attempt(37, "stdout into a full device", "a sentence, no traceback")
def full_stdout(bench: Bench) -> None:
    bench.sweep(on_host=True, shell='exec "$@" >/dev/full').refuses(1).says("Cannot write to stdout")
    assert bench.show()[0]["invocations_ok"] == 5


@attempt(38, "stderr into `head -3`, and into a full device", "whether anybody listens decides nothing")
def nobody_listens(bench: Bench) -> None:
    for shell in ('"$@" 2> >(head -3 >/dev/null)', 'exec "$@" 2>/dev/full'):
        bench.sweep(on_host=True, shell=shell, options=["--plain"]).is_clean(0, 1)
        (row,) = bench.show()
        assert row["invocations_ok"] == 5, f"{shell}: {row['invocations_ok']} processes"


@attempt(39, "stdout into `head -c 10`; stderr closed", "the sweep is whole")
def short_reader(bench: Bench) -> None:
    for shell in ('"$@" | head -c 10', 'exec "$@" 2>&-'):
        bench.sweep(on_host=True, shell=shell).is_clean()
        assert bench.show()[0]["invocations_ok"] == 5, shell


@attempt(40, "SIGSTOP for 25 s, then SIGCONT", "goes on", slow=True)
def stopped(bench: Bench) -> None:
    with bench.sweeping(on_host=True, invocations=8) as child:
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(25)
        os.kill(child.pid, signal.SIGCONT)
        (row,) = bench.end(child).is_clean(0, 1).rows
    assert row["invocations_ok"] == 8


@attempt(41, "one phone in two sweeps at once", "the second is refused with who holds it")
def one_phone_twice(bench: Bench) -> None:
    with bench.sweeping("sleep 4", invocations=8) as child:
        spec = bench.spec()
        second = bench.cli("sweep", spec, "--device", bench.phone.serial, "--results", bench.new_folder() / "r")
        assert "in use" in second.is_clean(1, 2, 3).said, second.said[-200:]
        (row,) = bench.end(child).is_clean(0, 1).rows
    assert row["invocations_ok"] == 8


@attempt(63, "permissions of what is made, names in the shared temporary folder", "nobody else can write there")
def permissions(bench: Bench) -> None:
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.update(path.name for path in Path(os.environ["TMPDIR"]).iterdir())

    thread = threading.Thread(target=watch)
    thread.start()
    ended: Ended = bench.sweep(samples=4)
    over.set()
    thread.join()
    ended.is_clean()
    open_to_all = [path for path in bench.results.rglob("*") if path.stat().st_mode & 0o002]
    assert not open_to_all, open_to_all
    assert not {"output", "outputs", "harness"} & seen, seen
