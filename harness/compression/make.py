"""Make a variant, or take it from the cache when model, recipe, data and libraries are the same as before."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import ValidationError

from harness.compression.lineage import Lineage, trace
from harness.compression.worker import CompressionJob, Progress, run_worker, stopped
from harness.errors import CompressionError, Failure, FailureClass, UsageError
from harness.progress import Observer
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe
from harness.tflite.flatbuffer import is_quantized, read_graph
from harness.tflite.runtimes import CURRENT, foresee_failure
from harness.tflite.variant import Variant, VariantCard

_KEY_LETTERS = 16
_LOG = logging.getLogger(__name__)


def make_variant(
    model: ModelSpec, recipe: Recipe, *, cache: Path, observer: Observer, stop: threading.Event | None = None
) -> Variant:
    """Return the variant that `recipe` makes of `model`, from `cache` (any folder) where it was made before.

    `observer` receives one sentence when something is really built, and the progress of training. Several processes may
    ask for the same variant at once: one makes it, the others wait. When `stop` is set, no more is done.
    Raises `CompressionError`, also if it was stopped; `UsageError` for a recipe with unknown settings.
    """
    lineage = trace(model, recipe)
    key = lineage.key(model)
    stem = re.sub(r"[^\w.-]+", "_", f"{model.name}-{recipe.name}")[:100]
    path = cache / "variants" / f"{stem}-{key[:_KEY_LETTERS]}.tflite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock"), stop):
            variant = _cached(path) or _make(
                model, recipe, lineage, path=path, cache=cache, observer=observer, stop=stop
            )
    except OSError as error:
        failure_class = FailureClass.STORAGE_FULL if error.errno == 28 else FailureClass.INTERNAL  # noqa: PLR2004
        raise CompressionError(Failure(failure_class, f"{path}: cannot be written ({error.strerror}).")) from error
    _check_promise(variant.card, recipe)
    return variant


@contextmanager
def _alone(lock: Path, stop: threading.Event | None) -> Iterator[None]:
    """Hold a lock that another process may hold for hours; what sets `stop` ends the wait."""
    try:
        held = FileLock(lock).acquire(cancel_check=stop.is_set if stop else None)
    except Timeout:
        raise stopped(lock.stem) from None
    with held:
        yield


def _cached(path: Path) -> Variant | None:
    """Return the variant in the cache; None when it is missing or no longer what its card says."""
    try:
        card = VariantCard.model_validate_json(_card_path(path).read_text(encoding="utf-8"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return None
    return Variant(path, card) if digest == card.sha256 else None


def _make(
    model: ModelSpec,
    recipe: Recipe,
    lineage: Lineage,
    *,
    path: Path,
    cache: Path,
    observer: Observer,
    stop: threading.Event | None,
) -> Variant:
    observer.note(f"Building {recipe.name} of {model.name}.")
    if lineage.training_data:
        observer.note(f"Training data: {lineage.training_data}")
    start = time.monotonic()
    with _empty_folder(path.with_suffix(".making")) as folder:
        here = folder.absolute()
        job = CompressionJob(
            model=model,
            recipe=recipe,
            kept=cache.absolute(),
            step_keys=tuple(lineage.step_key(model, count) for count in range(len(recipe.steps) + 1)),
            variant=here / "variant.tflite",
            facts=here / "facts.json",
            failure=here / "failure.json",
            progress=here / "progress.json",
        )
        _LOG.info("compressing %s of %s", recipe.name, model.name)
        with _Bar(observer, recipe.name) as bar:
            run_worker(job, watch=bar.show, stop=stop)
        facts = json.loads(job.facts.read_text(encoding="utf-8"))
        seconds = time.monotonic() - start
        _LOG.info("compressed %s of %s in %.1f s", recipe.name, model.name, seconds)
        card = build_card(job.variant.read_bytes(), lineage, seconds=seconds, step_facts=facts)
        # The card comes last: a variant without one counts as not made.
        job.variant.replace(path)
        card_path = folder / "card.json"
        card_path.write_text(card.model_dump_json(indent=2), encoding="utf-8")
        card_path.replace(_card_path(path))
    return Variant(path, card)


@contextmanager
def _empty_folder(folder: Path) -> Iterator[Path]:
    """Make a folder and remove it at the end; what a harness that was killed left there is removed at the start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Bar:
    """Shows what a worker tells: one bar a stretch of long work."""

    def __init__(self, observer: Observer, recipe: str) -> None:
        self._observer, self._recipe = observer, recipe
        self._name: str | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def show(self, progress: Progress) -> None:
        """Draw what the worker reported."""
        name = f"{self._recipe}: {progress.doing}"
        if name != self._name:
            self._end()
            self._name, self._done = name, 0
            self._observer.begin(name, progress.total)
        self._observer.advance(name, progress.more, progress.done - self._done)
        self._done = progress.done

    def _end(self) -> None:
        if self._name is not None:
            self._observer.end(self._name)
        self._name = None


def _check_promise(card: VariantCard, recipe: Recipe) -> None:
    """Refuse a variant that is not what its recipe promises; the target `current` promises nothing."""
    if recipe.target_runtime == CURRENT:
        return
    if not recipe.steps and is_quantized(card.weight_types):
        message = f"{card.model} is quantized already, so there is no float variant of it. Use the recipe as-is."
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
    failure = foresee_failure(card, recipe.target_runtime)
    if failure is not None:
        raise CompressionError(failure)


def _card_path(variant: Path) -> Path:
    return variant.with_suffix(".json")


def build_card(
    content: bytes, lineage: Lineage, *, seconds: float, step_facts: Sequence[dict[str, Any]] = ()
) -> VariantCard:
    """Return the card of a variant that was just made. Raises `CompressionError` when the file is not a model."""
    facts = read_graph(content, name=f"variant {lineage.recipe}")
    return VariantCard(
        **lineage.model_dump(),
        step_facts=tuple(step_facts),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        gzip_size_bytes=len(gzip.compress(content, mtime=0)),
        operators=facts.operators,
        operator_versions=facts.operator_versions,
        custom_operators=facts.custom_operators,
        weight_types=facts.weight_types,
        inputs=facts.inputs,
        outputs=facts.outputs,
        seconds=round(seconds, 3),
    )


def copy_variant(variant: Variant, folder: Path, stem: str) -> Variant:
    """Copy a variant and its card into a folder. Raises `UsageError` if they cannot be written."""
    target = folder / f"{stem}.tflite".replace("/", "_")
    try:
        shutil.copyfile(variant.path, target)
        _card_path(target).write_text(variant.card.model_dump_json(indent=2), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {target}: {error.strerror}.", "Choose another --output.") from error
    return Variant(target, variant.card)
