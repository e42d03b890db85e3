"""Make the variants of a sweep; what cannot be made is a failure, and the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.compression.make import make_variant
from harness.compression.variant import Variant
from harness.errors import CompressionError, Failure
from harness.progress import Observer
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe


@dataclass(frozen=True)
class FailedVariant:
    """A recipe that gave no variant."""

    recipe: str
    failure: Failure


@dataclass(frozen=True)
class Variants:
    """What became of the recipes of a sweep."""

    reference: Variant | None
    """The float model, which accuracy is compared with, whether or not it is measured itself."""
    made: tuple[Variant, ...]
    failed: tuple[FailedVariant, ...]


def make_variants(
    model: ModelSpec, recipes: Sequence[Recipe], reference: Recipe, *, cache: Path, observer: Observer
) -> Variants:
    """Make every variant and the float reference. Never raises for one recipe's failure."""
    made: list[Variant] = []
    failed: list[FailedVariant] = []
    bar = "compression"
    observer.begin(bar, len(recipes))
    for recipe in recipes:
        try:
            made.append(make_variant(model, recipe, cache=cache, observer=observer))
        except CompressionError as error:
            failed.append(FailedVariant(recipe.name, error.failure))
        observer.advance(bar, recipe.name)
    observer.end(bar)
    return Variants(_reference_variant(model, reference, cache, observer), tuple(made), tuple(failed))


def _reference_variant(model: ModelSpec, recipe: Recipe, cache: Path, observer: Observer) -> Variant | None:
    try:
        return make_variant(model, recipe, cache=cache, observer=observer)
    except CompressionError:
        return None
