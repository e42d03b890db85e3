"""Files that travel to the hosts of a lab: named by their SHA-256, and never sent where they are already."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.datasets.labelled import Samples
from harness.errors import HarnessError, UsageError
from harness.files import sha256_of
from harness.paths import cache_folder
from harness.sweep.variants import VariantQueue
from harness.tflite.variant import Variant, VariantCard

PIECE_BYTES = 4_000_000
"""Small enough to pass through dask's scheduler beside everything else."""
_NAME = re.compile(r"[0-9a-f]{64}\.(tflite|npz)")


@dataclass(frozen=True)
class TransferFile:
    """A file on the computer that sends it."""

    sha256: str
    path: Path

    @property
    def name(self) -> str:
        """What it is called wherever it goes."""
        return f"{self.sha256}{self.path.suffix}"


def place_of(name: str) -> Path:
    """Return where a host keeps a file. Raises `UsageError` for what is no name of a parcel."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a file that travels.", "Only harness's own sweeps send files.")
    return cache_folder() / "lab" / name


def lacking(names: Collection[str]) -> list[str]:
    """Return which files are not here yet."""
    return [name for name in names if not place_of(name).is_file()]


def pieces(parcel: TransferFile) -> Iterator[tuple[int, bytes]]:
    """Return a file in pieces, each with its offset; an empty file is one empty piece."""
    with parcel.path.open("rb") as file:
        offset = 0
        while (piece := file.read(PIECE_BYTES)) or not offset:
            yield offset, piece
            offset += len(piece) or 1


def keep_piece(name: str, sender: str, offset: int, piece: bytes) -> None:
    """Write a piece of a file; pieces come in order, from one sender at a time. Raises `HarnessError`."""
    part = _part(name, sender)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(piece)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise HarnessError(f"{part.parent} cannot be written: {error.strerror}.", "Free space there.") from error


def complete(name: str, sender: str) -> None:
    """Take a file whose last piece has come. Raises `HarnessError` where it arrived changed."""
    part = _part(name, sender)
    if sha256_of(part) != place_of(name).stem:
        part.unlink()
        raise HarnessError(f"{name} arrived changed.", "Check the network between the hosts, and start again.")
    part.replace(place_of(name))


def _part(name: str, sender: str) -> Path:
    return place_of(name).with_suffix(f".{sender}.part")


_supplies: dict[str, VariantQueue] = {}
"""Of the jobs that are under way on this host, by their names."""


@dataclass(frozen=True)
class VariantBatch:
    """Variants on their way to one job. Their files are parcels that its host was sent before."""

    cards: tuple[VariantCard, ...]
    is_open: bool
    """Whether more may come."""
    is_complete: bool
    """Whether these were the last of all."""


class VariantDelivery:
    """What one job was given, at the side that gives."""

    def __init__(self, supply: VariantQueue) -> None:
        self._supply = supply
        self._given = 0
        self._is_over = False

    def due(self) -> VariantBatch | None:
        """Return what the job does not know yet; None: nothing."""
        snapshot = self._supply.snapshot
        if self._is_over or (snapshot.is_open and len(snapshot.ready) == self._given):
            return None
        cards = tuple(variant.card for variant in snapshot.ready[self._given :])
        return VariantBatch(cards, snapshot.is_open, snapshot.is_complete)

    def given(self, batch: VariantBatch) -> None:
        """Note that the job has it."""
        self._given += len(batch.cards)
        self._is_over = not batch.is_open


@contextmanager
def supplied(job_id: str, first: VariantBatch, stop: threading.Event) -> Iterator[VariantQueue]:
    """Receive what is handed over to a job, for a `with` block."""
    supply = VariantQueue(is_open=True, stop=stop)
    _take(supply, first)
    _supplies[job_id] = supply
    try:
        yield supply
    finally:
        del _supplies[job_id]


def hand_over(job_id: str, batch: VariantBatch) -> bool:
    """Give a batch to a job on this host; return whether it is under way."""
    supply = _supplies.get(job_id)
    if supply is not None:
        _take(supply, batch)
    return supply is not None


def _take(supply: VariantQueue, batch: VariantBatch) -> None:
    for card in batch.cards:
        supply.add(arrived(card))
    if not batch.is_open:
        supply.close(is_complete=batch.is_complete)


def arrived(card: VariantCard) -> Variant:
    """Return a variant that has come to this host."""
    return Variant(place_of(parcel_of(card)), card)


def parcel_of(card: VariantCard) -> str:
    """Return the name of a variant's file on its way."""
    return f"{card.sha256}.tflite"


_LABELS = "labels"


def save_samples(samples: Samples, folder: Path) -> tuple[str, Path]:
    """Write samples into a folder under the SHA-256 of the file, which is returned with its path."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {str(index): array for index, array in enumerate(samples.inputs)}
    labels = {} if samples.labels is None else {_LABELS: samples.labels}
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        np.savez(file, **arrays, **labels)  # type: ignore[arg-type]
    part = Path(file.name)
    sha256 = sha256_of(part)
    return sha256, part.replace(folder / f"{sha256}.npz")


def load_samples(file: Path) -> Samples:
    """Read what `save_samples` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        inputs = tuple(archive[name] for name in sorted(set(archive.files) - {_LABELS}, key=int))
        return Samples(inputs, archive[_LABELS] if _LABELS in archive.files else None)
