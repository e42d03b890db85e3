"""A worker whose harness is gone ends too, and what it left is removed by the next one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.worker import CompressionJob
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec


def test_a_worker_ends_when_whoever_gave_the_job_is_gone(tmp_path: Path) -> None:
    endless = tmp_path / "endless.tflite"
    os.mkfifo(endless)  # opening it waits for a writer that never comes
    job = CompressionJob(
        model=_model(endless),
        recipe=builtin_recipes()["as-is"],
        kept=tmp_path,
        step_keys=("a",),
        variant=tmp_path / "variant.tflite",
        facts=tmp_path / "facts.json",
        failure=tmp_path / "failure.json",
        progress=tmp_path / "progress.json",
    )
    worker = subprocess.Popen([sys.executable, "-P", "-m", "harness.compression.worker"], stdin=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.write(job.model_dump_json().encode() + b"\n")
    worker.stdin.flush()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=5)
        assert worker.poll() is None, "it works as long as somebody waits for it"
        worker.stdin.close()
        assert worker.wait(timeout=120) == 1
    finally:
        worker.kill()
        worker.wait()


def _model(path: Path) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": "endless", "source": {"kind": "tflite", "path": path.name}, "folder": path.parent}
    )


def test_what_a_killed_harness_left_of_a_variant_is_removed(
    graph_model: Callable[..., ModelSpec], tmp_path: Path
) -> None:
    recipe = builtin_recipes()["fp16"]
    variant = make_variant(graph_model(), recipe, cache=tmp_path, observer=SilentObserver())
    content = variant.path.read_bytes()
    variant.path.unlink()
    left = variant.path.with_suffix(".making")
    left.mkdir()
    (left / "variant.tflite").write_bytes(b"half of it")
    again = make_variant(graph_model(), recipe, cache=tmp_path, observer=SilentObserver())
    assert again.path.read_bytes() == content
    assert not left.exists()
