"""How the variants of a sweep get to its jobs: at first those that are made, later the others, while the jobs work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.lab.transfer import place_of
from harness.sweep.supply import VariantSupply
from harness.tflite.variant import Variant, VariantCard

_supplies: dict[str, VariantSupply] = {}
"""Of the jobs that are under way on this host, by their names."""


@dataclass(frozen=True)
class Batch:
    """Variants on their way to one job. Their files are parcels that its host was sent before."""

    cards: tuple[VariantCard, ...]
    is_open: bool
    """Whether more may come."""
    is_whole: bool
    """Whether these were the last of all."""


class Delivery:
    """What one job was given, at the side that gives."""

    def __init__(self, supply: VariantSupply) -> None:
        self._supply = supply
        self._given = 0
        self._is_over = False

    def due(self) -> Batch | None:
        """Return what the job does not know yet; None: nothing."""
        stock = self._supply.stock
        if self._is_over or (stock.is_open and len(stock.ready) == self._given):
            return None
        cards = tuple(variant.card for variant in stock.ready[self._given :])
        return Batch(cards, stock.is_open, stock.is_whole)

    def given(self, batch: Batch) -> None:
        """Note that the job has it."""
        self._given += len(batch.cards)
        self._is_over = not batch.is_open


@contextmanager
def supplied(job_id: str, first: Batch, stop: threading.Event) -> Iterator[VariantSupply]:
    """Receive what is handed over to a job, for a `with` block."""
    supply = VariantSupply(is_open=True, stop=stop)
    _take(supply, first)
    _supplies[job_id] = supply
    try:
        yield supply
    finally:
        del _supplies[job_id]


def hand_over(job_id: str, batch: Batch) -> bool:
    """Give a batch to a job on this host; return whether it is under way."""
    supply = _supplies.get(job_id)
    if supply is not None:
        _take(supply, batch)
    return supply is not None


def _take(supply: VariantSupply, batch: Batch) -> None:
    for card in batch.cards:
        supply.add(arrived(card))
    if not batch.is_open:
        supply.close(is_whole=batch.is_whole)


def arrived(card: VariantCard) -> Variant:
    """Return a variant that has come to this host."""
    return Variant(place_of(parcel_of(card)), card)


def parcel_of(card: VariantCard) -> str:
    """Return the name of a variant's file on its way."""
    return f"{card.sha256}.tflite"
