"""Make the variants of a sweep, one after another; what cannot be made is a failure, and the others go on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe, trains
from harness.errors import CompressionError, Failure, FailureClass
from harness.progress import Observer
from harness.spec.model import ModelSpec, TfliteFile
from harness.spec.recipe import Recipe
from harness.tflite.variant import Variant

FLOAT_RECIPE = "fp32"
AS_IS_RECIPE = "as-is"

_BAR = "compression"
_WHOLE_NUMBERS = frozenset({"int2", "int4", "int8", "uint8", "int16"})


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
    model: ModelSpec, *, cache: Path, observer: Observer, stop: threading.Event | None = None
) -> Variant | None:
    """Return the float model, which variants are compared with, whether or not it is measured; None: there is none.

    A `.tflite` file is its own, as it is, unless it computes in whole numbers.
    """
    recipe = find_recipe(AS_IS_RECIPE if isinstance(model.source, TfliteFile) else FLOAT_RECIPE)
    try:
        made = make_variant(model, recipe, cache=cache, observer=observer, stop=stop)
    except CompressionError:
        return None
    return None if made.card.weight_types.keys() & _WHOLE_NUMBERS else made


_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class ReadyVariants:
    """What there is at one moment."""

    ready: tuple[Variant, ...]
    """Those that are made, in the order of their making."""
    is_open: bool
    """True if more may come."""
    is_complete: bool
    """True if these are all, and not only since the making was stopped."""


class VariantQueue:
    """Filled by the compression, read by every device in its own thread."""

    def __init__(
        self, ready: Sequence[Variant] = (), *, is_open: bool = False, stop: threading.Event | None = None
    ) -> None:
        """`is_open`: whether more may come; by default `ready` are all. `stop` ends every wait for them."""
        self._ready = list(ready)
        self._is_open = is_open
        self._is_complete = not is_open
        self._stop = stop or threading.Event()
        self._changed = threading.Condition()

    def add(self, variant: Variant) -> None:
        """Hand over one that is made."""
        with self._changed:
            self._ready.append(variant)
            self._changed.notify_all()

    def close(self, *, is_complete: bool) -> None:
        """Tell that no more come; `is_complete`: since all are made, and not since the making was stopped."""
        with self._changed:
            self._is_open, self._is_complete = False, is_complete
            self._changed.notify_all()

    @property
    def snapshot(self) -> ReadyVariants:
        """What there is now."""
        with self._changed:
            return ReadyVariants(tuple(self._ready), self._is_open, self._is_complete)

    @property
    def ready(self) -> tuple[Variant, ...]:
        """Those that are made, in the order of their making."""
        return self.snapshot.ready

    @property
    def is_open(self) -> bool:
        """Return True if more may come."""
        return self.snapshot.is_open

    def named(self, name: str) -> Variant:
        """Return a variant that is ready."""
        return next(variant for variant in self.ready if variant.name == name)

    def as_they_come(self) -> Iterator[Variant]:
        """Yield every variant that is ready, and wait for the next, until the queue is closed."""
        for count in itertools.count():
            with self._changed:
                while len(self._ready) == count and self._may_come():
                    self._changed.wait(_LOOK_EVERY_S)
                if not self._may_come():
                    return
                variant = self._ready[count]
            yield variant

    def _may_come(self) -> bool:
        return self._is_open and not self._stop.is_set()

    def wait_for_all(self) -> bool:
        """Wait until the queue is closed; return True if every variant that can be built is there."""
        with self._changed:
            while self._may_come():
                self._changed.wait(_LOOK_EVERY_S)
            return self._is_complete
