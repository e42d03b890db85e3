"""Files that travel to the hosts of a lab: named by their SHA-256, and never sent where they are already."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.files import sha256_of
from harness.paths import cache_folder

PIECE_BYTES = 4_000_000
"""Small enough to pass through dask's scheduler beside everything else."""
_NAME = re.compile(r"[0-9a-f]{64}\.(tflite|npz)")


@dataclass(frozen=True)
class Parcel:
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


def pieces(parcel: Parcel) -> Iterator[tuple[int, bytes]]:
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
