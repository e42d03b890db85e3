"""`device_profiles/NAME.toml`: how one kind of device is to be measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.spec.loading import SpecModel


class ProfileMatch(SpecModel):
    """Facts that a device must show: shell patterns (`*`, `?`), case ignored; a key that is left out matches all."""

    kind: Literal["phone", "emulator", "virtual", "host"] | None = None
    maker: str | None = None
    model: str | None = None
    soc: str | None = None
    board: str | None = None


class DeviceProfile(SpecModel):
    """One profile. Of several that match a device, the one that asks for most wins."""

    name: str
    summary: str = ""
    match: ProfileMatch = ProfileMatch()
    delegates: tuple[str, ...] = ("cpu", "gpu", "nnapi")
    """What a sweep measures when the spec names no delegates."""
    cores: Literal["big", "little", "all"] | tuple[int, ...] = "big"
    thermal_limit_c: float = Field(default=40.0, gt=0, lt=120)
    thermal_wait_s: float = Field(default=300.0, ge=0)
    notes: tuple[str, ...] = ()
    """What is known to go wrong on this device."""
