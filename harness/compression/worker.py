"""Make one variant in a process of its own: `python -m harness.compression.worker`, started by `make.py`.

A converter that crashes, prints, grabs a GPU or fills the memory then touches neither the sweep nor the terminal.
The job comes in on stdin as JSON; the variant and, should it fail, the failure go into files that the job names.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.compression.graph.float_constants import with_float_constants
from harness.compression.recipe_state import RecipeState, WorkerServices
from harness.compression.recipes import leading_weight_steps, trains
from harness.compression.sources.load import is_keras, load_float_graph, load_keras_model, read_source_file
from harness.compression.sources.reading import first_line
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec, TfliteFile
from harness.spec.recipe import Recipe
from harness.tflite.flatbuffer import read_graph, with_current_codes
from harness.tflite.library_types import KerasModel
from harness.tflite.runtimes import CURRENT

TIME_LIMIT_S = 2 * 3600.0
"""For recipes without training: a hung converter ends some time."""

TRAINING_TIME_LIMIT_S = 14 * 24 * 3600.0
"""Large networks on a CPU take days; the observer sees the progress and can stop, and nothing is lost."""

_POLL_S = 0.1

_EVIDENCE_LINES = 40
_SIGKILL = 9
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # constant folding must not depend on the host's CPU
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",  # sums, and so rounded weights, must not depend on the host's cores
}
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
"""Converting needs no GPU, and starting one takes seconds and memory; training uses one if there is one."""


class CompressionJob(BaseModel):
    """What a worker is to make, and where."""

    model_config = ConfigDict(frozen=True)

    model: ModelSpec
    recipe: Recipe
    kept: Path
    """Folder for what recipes share: converted graphs and trained weights."""
    step_keys: tuple[str, ...]
    """Name of what the first 0, 1, ... steps leave behind, in that folder."""
    variant: Path
    facts: Path
    """What the steps have to say, as JSON."""
    failure: Path
    progress: Path
    """Its content is how far long work has come, as JSON."""


class Progress(BaseModel):
    """How far long work has come."""

    model_config = ConfigDict(frozen=True)

    doing: str
    total: int
    done: int
    more: str


class _StoredFailure(BaseModel):
    failure_class: FailureClass
    message: str
    evidence: str


def run_worker(
    job: CompressionJob,
    *,
    watch: Callable[[Progress], None] | None = None,
    time_limit_s: float | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Start a worker, wait for it, tell `watch` how far it is. When `stop` is set, it is ended.

    Raises `CompressionError` with what the worker printed as evidence.
    """
    # -P: a file called keras.py in the working folder must not be taken for the library.
    command = [sys.executable, "-P", "-m", "harness.compression.worker"]
    training = trains(job.recipe)
    limit_s = time_limit_s or (TRAINING_TIME_LIMIT_S if training else TIME_LIMIT_S)
    environment = {**os.environ, **_QUIET, **({} if training else _NO_GPU)}
    # A file instead of a pipe: what a crashed worker printed is kept, and no reader thread is needed.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C is for harness, which ends the worker
        )
        try:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            with contextlib.suppress(BrokenPipeError):  # a worker may die before it has read its job
                process.stdin.write(job.model_dump_json().encode() + b"\n")
                process.stdin.flush()  # and is left open: that it closes tells a worker that harness is gone
            _wait(process, job, watch, limit_s, stop or threading.Event())
        finally:
            process.kill()
            process.communicate()
        output.seek(0)
        printed = "\n".join(output.read().splitlines()[-_EVIDENCE_LINES:])
    if job.failure.is_file():
        raise CompressionError(_read_failure(job, printed))
    if process.returncode != 0 or not job.variant.is_file():
        raise CompressionError(_ended_badly(job.recipe.name, process.returncode, printed))


def stopped(what: str) -> CompressionError:
    """Return what to raise for work that was called off."""
    return CompressionError(Failure(FailureClass.INTERRUPTED, f"Compression of {what} was cancelled."))


def _read_failure(job: CompressionJob, printed: str) -> Failure:
    try:
        stored = _StoredFailure.model_validate_json(job.failure.read_text(encoding="utf-8"))
    except ValidationError:  # cut short: the disk had no room for the reason either
        message = f"No space is left on the disk of {job.kept}: {job.recipe.name} could not be made."
        return Failure(FailureClass.STORAGE_FULL, message, printed)
    evidence = "\n".join(part for part in (stored.evidence, printed) if part)
    return Failure(stored.failure_class, stored.message, evidence)


def _wait(
    process: subprocess.Popen[bytes],
    job: CompressionJob,
    watch: Callable[[Progress], None] | None,
    time_limit_s: float,
    stop: threading.Event,
) -> None:
    deadline = time.monotonic() + time_limit_s
    seen = b""
    while True:
        try:
            process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
        if stop.is_set():
            raise stopped(job.recipe.name)
        if time.monotonic() > deadline:
            raise CompressionError(
                Failure(FailureClass.TIMEOUT, f"Recipe {job.recipe.name} was not done after {time_limit_s:.0f} s.")
            )
        told = job.progress.read_bytes() if watch and job.progress.is_file() else b""
        if watch and told != seen:
            seen = told
            watch(Progress.model_validate_json(told))


def _ended_badly(recipe: str, exit_code: int, printed: str) -> Failure:
    if exit_code == -_SIGKILL:
        message = f"The converter was killed while making {recipe}, most likely because memory ran out."
        return Failure(FailureClass.OUT_OF_MEMORY, message, printed)
    if exit_code < 0:
        message = f"The converter crashed with signal {-exit_code} while making {recipe}."
        return Failure(FailureClass.CRASHED, message, printed)
    return Failure(FailureClass.CONVERSION_FAILED, f"The converter ended without a variant of {recipe}.", printed)


def _load_graph(job: CompressionJob) -> bytes:
    """Return the model's float graph: its own file, the one kept, or a fresh conversion, which is kept then."""
    if isinstance(job.model.source, TfliteFile):
        path = job.model.locate(job.model.source.path)
        content = read_source_file(path)
        read_graph(content, name=str(path))  # an invalid model is named by its own file, not by its variant
        if not job.recipe.steps and job.recipe.target_runtime == CURRENT:
            return content  # as it is
        return with_float_constants(with_current_codes(content))
    kept = _kept_graph(job, 0)
    if kept.is_file():
        return kept.read_bytes()
    graph = load_float_graph(job.model) or _convert(load_keras_model(job.model))
    _write(kept, graph)
    return graph


def _kept_graph(job: CompressionJob, steps: int) -> Path:
    return job.kept / "float-graphs" / f"{job.step_keys[steps]}.tflite"


def _convert(keras_model: KerasModel) -> bytes:
    from harness.compression.sources.load import convert

    return convert(keras_model)


def _write(path: Path, content: bytes) -> None:
    """Write all or nothing: a half-written file would pass for a whole one next time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _make(job: CompressionJob) -> bytes:
    """Carry out the recipe. The graph after its leading weight steps is kept, or taken from an earlier recipe."""
    work = RecipeState(job.model, job.recipe.target_runtime, _surroundings(job))
    trainable = is_keras(job.model)
    first = leading_weight_steps(job.recipe) if trainable else 0
    if first:
        _weight_steps(job, work, first)
    else:
        work.graph()
    for index in range(first, len(job.recipe.steps)):
        _apply(job, work, index)
    graph = work.graph()
    if job.recipe.steps or trainable:  # a .tflite that nothing was done to may be for another runtime
        _require_runs(graph, job.recipe.name)
    _write(job.facts, json.dumps(work.facts).encode())
    return graph


def _require_runs(graph: bytes, recipe: str) -> None:
    """Run a variant once, on zeros. Raises `CompressionError` if this host's LiteRT refuses it."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    if read_graph(graph, name=recipe).custom_operators:
        return  # these are the device's own, and `foresee_failure` names them
    try:
        interpreter = Interpreter(model_content=graph, num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        message = f"Cannot use {recipe}: LiteRT does not run the file that it made ({first_line(error)})."
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message, str(error))) from error


def _weight_steps(job: CompressionJob, work: RecipeState, count: int) -> None:
    graph, facts = _kept_graph(job, count), _kept_graph(job, count).with_suffix(".json")
    if graph.is_file() and facts.is_file():
        work.facts = json.loads(facts.read_text(encoding="utf-8"))
        work.replace_graph(graph.read_bytes())
        return
    for index in range(count):
        _apply(job, work, index)
    _write(facts, json.dumps(work.facts).encode())
    _write(graph, work.graph())


def _apply(job: CompressionJob, work: RecipeState, index: int) -> None:
    from harness.compression.registry import get_technique

    origin = f"recipe {job.recipe.name}"
    step = job.recipe.steps[index]
    technique = get_technique(step.technique, origin=origin)
    work.begin_step(index, technique.name)
    folder = work.step_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # another recipe may begin with the same step at the same time
        technique.apply(work, technique.settings(step, origin=origin))


def _surroundings(job: CompressionJob) -> WorkerServices:
    told_at = 0.0

    def progress(doing: str, total: int, done: int, more: str) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at < _POLL_S and done < total:
            return
        told_at = now
        _write(job.progress, Progress(doing=doing, total=total, done=done, more=more).model_dump_json().encode())

    return WorkerServices(
        load_keras_model=lambda: load_keras_model(job.model),
        load_graph=lambda: _load_graph(job),
        convert=_convert,
        kept_folder=job.kept,
        step_folder=lambda index: job.kept / "trainings" / job.step_keys[index + 1],
        progress=progress,
    )


def main() -> None:
    """Carry out the job on stdin; every failure ends in the job's failure file."""
    job = CompressionJob.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_harness, daemon=True).start()
    try:
        _write(job.variant, _make(job))
    except CompressionError as error:
        _store(job, error.failure)
    except OSError as error:
        failure_class = FailureClass.STORAGE_FULL if error.errno == 28 else FailureClass.INTERNAL  # noqa: PLR2004
        _store(job, Failure(failure_class, f"Building {job.recipe.name} failed: {error}.", traceback.format_exc()))
    except Exception as error:  # libraries raise all kinds; the sweep goes on with the next recipe
        message = f"Building {job.recipe.name} failed: {type(error).__name__}: {error}"
        _store(job, Failure(FailureClass.CONVERSION_FAILED, message, traceback.format_exc()))


def _end_with_harness() -> None:
    """Exit when the parent exits: an orphaned training run would continue for hours."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _store(job: CompressionJob, failure: Failure) -> None:
    stored = _StoredFailure(failure_class=failure.failure_class, message=failure.message, evidence=failure.evidence)
    job.failure.write_text(stored.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
