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


class PrepareSpec(SpecModel):
    """What is turned on a phone before measuring, and restored afterwards; what it does not offer is left out."""

    fixed_performance: bool = True
    """Android's mode of clocks that hold for long, from API level 30."""
    lock_clocks: bool = True
    """Governor `performance` and one clock for each core, where the shell is root."""
    clock_share: float = Field(default=1.0, gt=0, le=1)
    """That clock as a share of what the core can do; lower it on a phone that throttles."""
    screen: Literal["on", "off", "as-is"] = "on"
    stay_awake: bool = True


class DeviceProfile(SpecModel):
    """One profile. Of several that match a device, the one that asks for most wins."""

    name: str
    summary: str = ""
    match: ProfileMatch = ProfileMatch()
    delegates: tuple[str, ...] = ("cpu", "gpu", "nnapi")
    """What a sweep measures when the spec names no delegates."""
    cores: Literal["big", "little", "all"] | tuple[int, ...] = "big"
    thermal_limit_c: float = Field(default=40.0, gt=0, lt=120)
    """Skin, battery and all else that a hand can feel must be cooler before an invocation starts."""
    chip_limit_c: float = Field(default=60.0, gt=0, lt=120)
    """So must the sensors on the chip itself, which are warm at any work and cool within seconds."""
    thermal_wait_s: float = Field(default=300.0, ge=0)
    """How long to wait for that; 0 measures at once, hot or not."""
    prepare: PrepareSpec = PrepareSpec()
    notes: tuple[str, ...] = ()
    """What is known to go wrong on this device."""
