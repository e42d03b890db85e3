"""Make a variant, or take it from the cache when model, recipe, data and libraries are the same as before."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from harness.compression.card import build_card
from harness.compression.flatbuffer import is_quantized
from harness.compression.lineage import Lineage, trace
from harness.compression.runtime_check import CURRENT, foresee_failure
from harness.compression.variant import Variant, VariantCard
from harness.compression.worker import Job, run_worker
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe

_KEY_LETTERS = 16


def make_variant(model: ModelSpec, recipe: Recipe, *, cache: Path, report: Callable[[str], None]) -> Variant:
    """Return the variant that `recipe` makes of `model`, from `cache` (any folder) where it was made before.

    `report` is told one sentence when something is really made. Several processes may ask for the same variant at
    once: one makes it, the others wait. Raises `CompressionError`; `UsageError` for a recipe with unknown settings.
    """
    lineage = trace(model, recipe)
    key = lineage.key(model)
    stem = re.sub(r"[^\w.-]+", "_", f"{model.name}-{recipe.name}")[:100]
    path = cache / "variants" / f"{stem}-{key[:_KEY_LETTERS]}.tflite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            variant = _cached(path) or _make(model, recipe, lineage, path=path, cache=cache, report=report)
    except OSError as error:
        failure_class = FailureClass.STORAGE_FULL if error.errno == 28 else FailureClass.INTERNAL  # noqa: PLR2004
        raise CompressionError(Failure(failure_class, f"{path}: cannot be written ({error.strerror}).")) from error
    _check_promise(variant.card, recipe)
    return variant


def _cached(path: Path) -> Variant | None:
    """Return the variant in the cache; None when it is missing or no longer what its card says."""
    try:
        card = VariantCard.model_validate_json(_card_path(path).read_text(encoding="utf-8"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return None
    return Variant(path, card) if digest == card.sha256 else None


def _make(
    model: ModelSpec, recipe: Recipe, lineage: Lineage, *, path: Path, cache: Path, report: Callable[[str], None]
) -> Variant:
    report(f"Making {recipe.name} of {model.name}.")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-") as folder:
        job = Job(
            model=model,
            recipe=recipe,
            float_graph=(cache / "float-graphs" / f"{lineage.graph_key()}.tflite").absolute(),
            variant=Path(folder).absolute() / "variant.tflite",
            failure=Path(folder).absolute() / "failure.json",
        )
        run_worker(job)
        card = build_card(job.variant.read_bytes(), lineage, seconds=time.monotonic() - start)
        # The card comes last: a variant without one counts as not made.
        job.variant.replace(path)
        card_path = Path(folder) / "card.json"
        card_path.write_text(card.model_dump_json(indent=2), encoding="utf-8")
        card_path.replace(_card_path(path))
    return Variant(path, card)


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
