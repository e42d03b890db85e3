"""Make Debian's adbd ask for authorization, as a phone does.

Debian's build sets `auth_required = false` in `main`. The instruction that stores the zero is the one that stands right
before the address of the string "ADB_EXTERNAL_STORAGE" is taken, which makes the place certain in any build.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import MissingPrerequisiteError

_STORE_ZERO_THEN_LOAD_ADDRESS = b"\xc6\x00\x00\x48\x8d\x3d"
"""x86-64: `movb $0,(%rax)`, then `lea OFFSET(%rip),%rdi`."""
_STRING = b"ADB_EXTERNAL_STORAGE\0"
_SECTION_SHIFTS = (0, 0x1000, 0x2000, 0x3000)
"""By how much a string's file offset may lie below its address, relative to the code's."""


def require_authorization(adbd: Path, patched: Path) -> None:
    """Write a copy of adbd that asks for a key. Raises `MissingPrerequisiteError` where the place is not found once."""
    data = bytearray(adbd.read_bytes())
    places = [place for place in _occurrences(data) if _takes_address_of_string(data, place)]
    if len(places) != 1:
        raise MissingPrerequisiteError(
            f"This build of adbd cannot be made to ask for authorization ({len(places)} places found).",
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
