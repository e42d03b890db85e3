"""Patch Debian's adbd so that it asks for authorization, as a phone does.

Debian's build sets `auth_required = false` in `main`. In every build, the instruction that stores this zero comes right
before the one that loads the address of the string "ADB_EXTERNAL_STORAGE".
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import MissingPrerequisiteError

_STORE_ZERO_THEN_LOAD_ADDRESS = b"\xc6\x00\x00\x48\x8d\x3d"
"""x86-64: `movb $0,(%rax)`, then `lea OFFSET(%rip),%rdi`."""
_STRING = b"ADB_EXTERNAL_STORAGE\0"
_SECTION_SHIFTS = (0, 0x1000, 0x2000, 0x3000)
"""Possible differences between a string's address and its file offset, relative to the code's."""


def require_authorization(adbd: Path, patched: Path) -> None:
    """Write a copy of adbd that asks for a key. Raises `MissingPrerequisiteError` unless there is exactly one place."""
    data = bytearray(adbd.read_bytes())
    places = [place for place in _occurrences(data) if _takes_address_of_string(data, place)]
    if len(places) != 1:
        raise MissingPrerequisiteError(
            f"Cannot patch this build of adbd to ask for authorization: it has {len(places)} places, not one.",
            "Start the phone without --auth.",
        )
    data[places[0] + 2] = 1
    patched.write_bytes(data)
    patched.chmod(0o755)


def _occurrences(data: bytearray) -> list[int]:
    places, place = [], data.find(_STORE_ZERO_THEN_LOAD_ADDRESS)
    while place >= 0:
        places.append(place)
        place = data.find(_STORE_ZERO_THEN_LOAD_ADDRESS, place + 1)
    return places


def _takes_address_of_string(data: bytearray, place: int) -> bool:
    end = place + len(_STORE_ZERO_THEN_LOAD_ADDRESS) + 4
    offset = int.from_bytes(data[end - 4 : end], "little", signed=True)
    return any(data[end + offset + shift : end + offset + shift + len(_STRING)] == _STRING for shift in _SECTION_SHIFTS)
