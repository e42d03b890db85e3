"""Make one variant in a process of its own: `python -m harness.compression.worker`, started by `make.py`.

A converter that crashes, prints, grabs a GPU or fills the memory then touches neither the sweep nor the terminal.
The job comes in on stdin as JSON; the variant and, should it fail, the failure go into files that the job names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.compression.source import load_float_graph, load_keras_model, read_source_file
from harness.compression.workpiece import Workpiece
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec, TfliteFile
from harness.spec.recipe import Recipe

TIME_LIMIT_S = 4 * 3600.0
"""Long enough for recipes that train; a hung converter ends some time all the same."""

_EVIDENCE_LINES = 40
_SIGKILL = 9
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # constant folding must not depend on the host's CPU
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONHASHSEED": "0",
}


class Job(BaseModel):
    """What a worker is to make, and where."""

    model_config = ConfigDict(frozen=True)

    model: ModelSpec
    recipe: Recipe
    float_graph: Path
    """Where the converted float graph is kept for the next recipe."""
    variant: Path
    failure: Path


class _StoredFailure(BaseModel):
    failure_class: FailureClass
    message: str
    evidence: str


def run_worker(job: Job, *, time_limit_s: float = TIME_LIMIT_S) -> None:
    """Start a worker, wait for it. Raises `CompressionError` with what it printed as evidence."""
    # -P: a file called keras.py in the working folder must not be taken for the library.
    command = [sys.executable, "-P", "-m", "harness.compression.worker"]
    # A file instead of a pipe: what a crashed worker printed is kept, and no reader thread is needed.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env={**os.environ, **_QUIET}
        )
        try:
            process.communicate(job.model_dump_json().encode(), timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            raise CompressionError(
                Failure(FailureClass.TIMEOUT, f"Recipe {job.recipe.name} was not done after {time_limit_s:.0f} s.")
            ) from None
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        printed = "\n".join(output.read().splitlines()[-_EVIDENCE_LINES:])
    if job.failure.is_file():
        stored = _StoredFailure.model_validate_json(job.failure.read_text(encoding="utf-8"))
        evidence = "\n".join(part for part in (stored.evidence, printed) if part)
        raise CompressionError(Failure(stored.failure_class, stored.message, evidence))
    if process.returncode != 0 or not job.variant.is_file():
        raise CompressionError(_ended_badly(job.recipe.name, process.returncode, printed))


def _ended_badly(recipe: str, exit_code: int, printed: str) -> Failure:
    if exit_code == -_SIGKILL:
        message = f"The converter was killed while making {recipe}, most likely because memory ran out."
        return Failure(FailureClass.OUT_OF_MEMORY, message, printed)
    if exit_code < 0:
        message = f"The converter crashed with signal {-exit_code} while making {recipe}."
        return Failure(FailureClass.CRASHED, message, printed)
    return Failure(FailureClass.CONVERSION_FAILED, f"The converter ended without a variant of {recipe}.", printed)


def _load_graph(job: Job) -> bytes:
    """Return the model's float graph: its own file, the one kept, or a fresh conversion, which is kept then."""
    if isinstance(job.model.source, TfliteFile):
        return read_source_file(job.model.locate(job.model.source.path))
    if job.float_graph.is_file():
        return job.float_graph.read_bytes()
    graph = load_float_graph(job.model) or _convert(load_keras_model(job.model))
    _write(job.float_graph, graph)
    return graph


def _convert(keras_model: object) -> bytes:
    from harness.compression.convert import convert

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


def _make(job: Job) -> bytes:
    from harness.compression.registry import get_technique

    work = Workpiece(
        job.model,
        job.recipe.target_runtime,
        load_keras_model=lambda: load_keras_model(job.model),
        load_graph=lambda: _load_graph(job),
        convert=_convert,
    )
    origin = f"recipe {job.recipe.name}"
    for step in job.recipe.steps:
        technique = get_technique(step.technique, origin=origin)
        technique.apply(work, technique.settings(step, origin=origin))
    return work.graph()


def main() -> None:
    """Carry out the job on stdin; every failure ends in the job's failure file."""
    job = Job.model_validate_json(sys.stdin.buffer.read())
    try:
        _write(job.variant, _make(job))
    except CompressionError as error:
        _store(job, error.failure)
    except OSError as error:
        failure_class = FailureClass.STORAGE_FULL if error.errno == 28 else FailureClass.INTERNAL  # noqa: PLR2004
        _store(job, Failure(failure_class, f"Making {job.recipe.name} failed: {error}.", traceback.format_exc()))
    except Exception as error:  # libraries raise all kinds; the sweep goes on with the next recipe
        message = f"Making {job.recipe.name} failed: {type(error).__name__}: {error}"
        _store(job, Failure(FailureClass.CONVERSION_FAILED, message, traceback.format_exc()))


def _store(job: Job, failure: Failure) -> None:
    stored = _StoredFailure(failure_class=failure.failure_class, message=failure.message, evidence=failure.evidence)
    job.failure.write_text(stored.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
