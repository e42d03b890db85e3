"""Make the variants of a sweep, one after the other; what cannot be made is a failure, and the others go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.compression.make import make_variant
from harness.compression.recipes import trains
from harness.errors import CompressionError, Failure, FailureClass
from harness.progress import Observer
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe
from harness.tflite.variant import Variant

_BAR = "compression"


@dataclass(frozen=True)
class FailedVariant:
    """A recipe that gave no variant."""

    recipe: str
    failure: Failure


def make_variants(
    model: ModelSpec, recipes: Sequence[Recipe], *, cache: Path, observer: Observer, stop: threading.Event
) -> Iterator[Variant | FailedVariant]:
    """Yield what becomes of each recipe, until `stop` is set. Never raises for one recipe's failure.

    Recipes that train come last: devices have something to do meanwhile.
    """
    observer.begin(_BAR, len(recipes))
    try:
        for recipe in sorted(recipes, key=trains):
            if stop.is_set():
                return
            outcome: Variant | FailedVariant
            try:
                outcome = make_variant(model, recipe, cache=cache, observer=observer, stop=stop)
            except CompressionError as error:
                if error.failure.failure_class is FailureClass.INTERRUPTED:
                    return
                outcome = FailedVariant(recipe.name, error.failure)
            observer.advance(_BAR, recipe.name)
            yield outcome
    finally:
        observer.end(_BAR)


def make_reference(
    model: ModelSpec, recipe: Recipe, *, cache: Path, observer: Observer, stop: threading.Event
) -> Variant | None:
    """Return the float model, which accuracy is compared with, whether or not it is measured; None: there is none."""
    try:
        return make_variant(model, recipe, cache=cache, observer=observer, stop=stop)
    except CompressionError:
        return None
