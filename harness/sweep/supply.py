"""The variants of a sweep as its devices see them: those that are ready, and whether more are being made."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence

from harness.compression.variant import Variant


class VariantSupply:
    """Filled by whoever makes the variants, and asked by every device, each in its own thread."""

    def __init__(self, ready: Sequence[Variant] = (), *, is_open: bool = False) -> None:
        """`is_open`: whether more may come; by default `ready` are all."""
        self._ready = list(ready)
        self._is_open = is_open
        self._is_whole = not is_open
        self._changed = threading.Condition()

    def add(self, variant: Variant) -> None:
        """Hand over one that is made."""
        with self._changed:
            self._ready.append(variant)
            self._changed.notify_all()

    def close(self, *, is_whole: bool) -> None:
        """Tell that no more come; `is_whole`: since all are made, and not since the making was stopped."""
        with self._changed:
            self._is_open, self._is_whole = False, is_whole
            self._changed.notify_all()

    @property
    def ready(self) -> tuple[Variant, ...]:
        """Those that are made, in the order of their making."""
        with self._changed:
            return tuple(self._ready)

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        with self._changed:
            return self._is_open

    def named(self, name: str) -> Variant:
        """Return a variant that is ready."""
        return next(variant for variant in self.ready if variant.name == name)

    def while_open(self) -> Iterator[Variant]:
        """Yield every variant that is ready, and wait for the next, until it is told that no more come."""
        for count in itertools.count():
            with self._changed:
                while self._is_open and len(self._ready) == count:
                    self._changed.wait()
                if not self._is_open:
                    return
                variant = self._ready[count]
            yield variant

    def is_whole(self) -> bool:
        """Wait until no more come; tell whether all that could be made are there."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_open)
            return self._is_whole
