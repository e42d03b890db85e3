"""Send files to the hosts of a lab, named by their SHA-256; a host that has a file is not sent it again.

Files go in pieces. As one task argument, 150 MB delayed the client's other requests by 4 s, in pieces by 0.2 s; and
`Client.scatter` blocks its caller, which could not watch for a lost host in the meantime.
"""

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
"""Larger pieces delay the other messages through dask's scheduler."""
_NAME = re.compile(r"[0-9a-f]{64}\.(tflite|npz)")


@dataclass(frozen=True)
class TransferFile:
    """A file on the computer that sends it."""

    sha256: str
    path: Path

    @property
    def name(self) -> str:
        """Its name on every host."""
        return f"{self.sha256}{self.path.suffix}"


def place_of(name: str) -> Path:
    """Return the path of a file on a host. Raises `UsageError` for an invalid name."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"Invalid name {name!r} of a transferred file.", "Only harness's own sweeps send files.")
    return cache_folder() / "lab" / name


def lacking(names: Collection[str]) -> list[str]:
    """Return the names of files that this host does not have yet."""
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
    """Check and store a file after its last piece. Raises `HarnessError` if its contents changed on the way."""
    part = _part(name, sender)
    if sha256_of(part) != place_of(name).stem:
        part.unlink()
        raise HarnessError(f"{name} arrived changed.", "Check the network between the hosts, and start again.")
    part.replace(place_of(name))


def _part(name: str, sender: str) -> Path:
    return place_of(name).with_suffix(f".{sender}.part")


_supplies: dict[str, VariantQueue] = {}
"""The variants of each running job on this host, by job."""


@dataclass(frozen=True)
class VariantBatch:
    """Variants for one job, whose files the host already has."""

    cards: tuple[VariantCard, ...]
    is_open: bool
    """True if more may come."""
    is_complete: bool
    """True if these were the last of all."""


class VariantDelivery:
    """The sender's record of the variants that one job has received."""

    def __init__(self, supply: VariantQueue) -> None:
        self._supply = supply
        self._given = 0
        self._is_over = False

    def due(self) -> VariantBatch | None:
        """Return the variants that the job has not received yet; None if there are none."""
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
    """Receive a job's variants for a `with` block."""
    supply = VariantQueue(is_open=True, stop=stop)
    _take(supply, first)
    _supplies[job_id] = supply
    try:
        yield supply
    finally:
        del _supplies[job_id]


def hand_over(job_id: str, batch: VariantBatch) -> bool:
    """Give a batch to a job on this host; return True if the job is running."""
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
    """Return a variant whose file this host has received."""
    return Variant(place_of(parcel_of(card)), card)


def parcel_of(card: VariantCard) -> str:
    """Return the transfer name of a variant's file."""
    return f"{card.sha256}.tflite"


_LABELS, _SCORED = "labels", "scored"


def save_samples(samples: Samples, folder: Path) -> tuple[str, Path]:
    """Write samples into a folder under the SHA-256 of the file, which is returned with its path."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {str(index): array for index, array in enumerate(samples.inputs)}
    labels = {} if samples.labels is None else {_LABELS: samples.labels, _SCORED: np.array(samples.scored)}
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        np.savez(file, **arrays, **labels)  # type: ignore[arg-type]
    part = Path(file.name)
    sha256 = sha256_of(part)
    return sha256, part.replace(folder / f"{sha256}.npz")


def load_samples(file: Path) -> Samples:
    """Load samples that `save_samples` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        inputs = tuple(archive[name] for name in sorted(set(archive.files) - {_LABELS, _SCORED}, key=int))
        return (
            Samples(inputs, archive[_LABELS], int(archive[_SCORED]))
            if _LABELS in archive.files
            else Samples(inputs, None)
        )
