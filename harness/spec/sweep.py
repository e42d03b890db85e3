"""A sweep, as a person writes it: which model, which recipes, on which devices, how thoroughly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from harness.spec.limits import OutputLimits
from harness.spec.loading import SpecModel, read_toml, validate_spec
from harness.spec.model import ModelSpec, find_model, with_data

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[0-9]{1,5})?")
PresetName = Literal["quick", "standard", "strict"]
_MOST_THREADS = 1024
"""Far more than a phone has cores; the tool reads a number above 2^31 as another one."""


class MeasurementSettings(SpecModel):
    """How one cell is measured."""

    invocations: int = Field(ge=5, le=1000)
    """Independent processes a cell: the unit of statistics. Fewer than five say nothing about spread."""
    interval_width: float = Field(default=0.0, ge=0, lt=1)
    """A cell whose 95 % interval is narrower than this share of its median gets no more processes; 0: all are made."""
    fewest_invocations: int = Field(default=12, ge=5, le=1000)
    """No cell stops before; `invocations` is then the most."""
    runs: int = Field(ge=1, le=100_000)
    """Timed runs in one process."""
    warmup_min_s: float = Field(default=0.25, ge=0, le=600)
    """The shortest warm-up that is tried, in seconds; as long as that of Android's own benchmark library."""
    warmup_max_s: float = Field(default=4.0, ge=0, le=600)
    """The longest that is tried for a cell that does not settle; 0: `warmup_min_s` is used untested."""
    warmup_limit: float = Field(default=0.04, gt=0, le=1)
    """A cell is warm when the warm-up and the runs after it differ by at most this share."""
    timeout_s: float = Field(default=180.0, gt=0, le=36_000)
    """Time limit of one process on the device."""
    memory_invocations: int = Field(default=1, ge=0, le=100)
    """Separate processes that measure memory; their latency is not used."""
    op_profile_invocations: int = Field(default=1, ge=0, le=100)
    """Separate processes that tell where the time goes, operator by operator; their latency is not used."""
    init_pairs: int = Field(default=2, ge=0, le=100)
    """Pairs of processes that load the model: the first cold, the second warm."""
    sustained_s: float = Field(default=0.0, ge=0, le=86_400)
    """How long each cell is run without a pause after all else, to see it throttle; 0: not at all."""
    sustained_window_s: float = Field(default=10.0, ge=0.1, le=3600)
    """One value of the curve stands for so long; shorter than `timeout_s`."""
    accuracy_samples: int = Field(ge=0, le=10_000_000)
    """Labelled samples a cell, spread evenly over the data set; 0 leaves accuracy and output check out."""

    @model_validator(mode="after")
    def _windows_fit(self) -> MeasurementSettings:
        if self.sustained_s and self.sustained_window_s >= self.timeout_s:
            raise ValueError("sustained_window_s must be shorter than timeout_s")
        if 0 < self.sustained_s < 2 * self.sustained_window_s:
            raise ValueError(f"sustained_s must hold two windows of {self.sustained_window_s:g} s to compare")
        return self


PRESETS: dict[PresetName, dict[str, Any]] = {
    "quick": {"invocations": 5, "runs": 30, "warmup_max_s": 2.0, "init_pairs": 1, "accuracy_samples": 500},
    "standard": {"invocations": 18, "runs": 50, "accuracy_samples": 2000},
    "strict": {
        "invocations": 30,
        "runs": 100,
        "interval_width": 0.02,
        "warmup_max_s": 8.0,
        "init_pairs": 3,
        "accuracy_samples": 10_000,
    },
}
"""What each preset means; a key in `[measurement]` overrules it.

Eighteen invocations are what it takes to find a slowdown of 5 % in nine of ten comparisons where invocations differ by
3 %, at one false alarm in a hundred (`benchmarks/verdicts.py`). Ten cannot do it: even a test that knew the noise
beforehand would find 86 of 100.
"""


DEFAULT_RECIPES = ("fp32", "fp16", "dynamic-int8", "int8")


class SweepSpec(SpecModel):
    """One sweep. Everything has a default, so that an empty spec is the default sweep."""

    model: str = "fashion-dscnn"
    """A shipped model's name, or the path of a model's TOML file, of a `.keras` or of a `.tflite` file."""
    data: str | None = None
    """A `.npz` file or a folder of images in place of the model file's `[data]`."""
    pixels: tuple[float, float] | None = None
    """What the pixels 0 and 255 become before the model sees them, in place of its `[preprocessing]`."""
    recipes: tuple[str, ...] = DEFAULT_RECIPES
    """Built-in recipes by name, or paths of recipe TOML files."""
    max_drop_points: float | None = Field(default=None, gt=0, le=100)
    """Points of top-1 that quantized variants may lose: their costliest layers get their precision back."""
    devices: tuple[str, ...] = ()
    """ADB serials, `host`, `virtual` or `virtual:RECORDING`. Empty: every attached phone, else this host."""
    hosts: tuple[str, ...] = ()
    """Computers whose adb servers hold the phones, as HOST or HOST:PORT. Empty: the adb server of the environment."""
    delegates: tuple[str, ...] = ()
    """Empty: those of the device's profile."""
    require_full_delegation: bool = False
    """A row whose accelerator leaves nodes to the CPU fails, instead of being measured and not ranked."""
    threads: tuple[int, ...] = (1,)
    preset: PresetName = "quick"
    measurement: MeasurementSettings
    output_limits: OutputLimits = OutputLimits()
    """How far a delegate's outputs may be from the host's before its row is a failure."""
    seed: int = Field(default=1, ge=-(2**63), lt=2**63)  # what a store's column holds
    """Seeds the order of invocations."""
    per: Literal["device", "model"] = "device"
    """`device`: every phone measures every cell. `model`: any phone of a model serves a cell."""
    purpose: Literal["measure", "noise"] = "measure"
    """`noise`: one of several equal sweeps that show how far a device differs from itself (`harness noise`)."""
    broken_gpu: bool = False
    """Give virtual phones of this sweep a GPU driver that fails in silence, to see it caught."""
    prepare: bool = True
    """Turn what the device's profile asks for before measuring; false leaves the phone as it is."""
    reconnect_wait_s: float = Field(default=30.0, ge=0, le=3600)
    """How long to wait for a phone that went away before giving up on it."""
    most_faults: int = Field(default=5, ge=0, le=1_000_000)
    """A phone that goes away, or takes in something else than was sent, more often than this is left out."""
    may_reboot: bool = False
    """Restart a phone that would be left out, once in a sweep, and go on with it."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:  # noqa: ANN401
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "quick")
        chosen = PRESETS[preset] if isinstance(preset, str) and preset in PRESETS else PRESETS["quick"]
        given = values.get("measurement", {})
        return {**values, "measurement": {**chosen, **given} if isinstance(given, dict) else given}

    @field_validator("recipes", "threads")
    @classmethod
    def _at_least_one(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("at least one is needed")
        return _without_repeats(values)

    @field_validator("devices", "hosts", "delegates")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return _without_repeats(values)

    @field_validator("hosts")
    @classmethod
    def _is_host(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if unfit := [value for value in values if not _HOST.fullmatch(value)]:
            raise ValueError(f"{unfit[0]!r} is no HOST or HOST:PORT")
        return values

    @field_validator("threads")
    @classmethod
    def _is_possible(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if min(values) < 1 or max(values) > _MOST_THREADS:
            raise ValueError(f"allowed are whole numbers from 1 to {_MOST_THREADS}")
        return values

    def find_model(self) -> ModelSpec:
        """Return the model with the sweep's own data. Raises `UsageError`."""
        return with_data(find_model(self.model), self.data, self.pixels)


def _without_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def load_sweep_spec(path: Path | None, overrides: dict[str, Any]) -> SweepSpec:
    """Read a sweep's TOML file (None: the default sweep) and lay the command line's values over it.

    `overrides` holds only what was given; its key `measurement` is laid over key by key. Raises `UsageError`.
    """
    values = {} if path is None else read_toml(path)
    if path is not None:
        validate_spec(values, SweepSpec, origin=str(path))  # the file alone first, so that errors name the right origin
    measurement = {**values.get("measurement", {}), **overrides.get("measurement", {})}
    merged = {**values, **overrides, **({"measurement": measurement} if measurement else {})}
    return validate_spec(merged, SweepSpec, origin="command line" if path is None else f"{path} with the command line")


def change_sweep_spec(stored: Mapping[str, Any], overrides: dict[str, Any], *, origin: str) -> SweepSpec:
    """Lay the command line's values over the whole spec of a stored sweep. Raises `UsageError`.

    A preset that is given sets all that presets set, also over what the stored spec had of its own.
    """
    measurement = dict(stored["measurement"])
    if "preset" in overrides:
        measurement = {name: value for name, value in measurement.items() if name not in _SET_BY_PRESETS}
    measurement |= overrides.get("measurement", {})
    return validate_spec({**stored, **overrides, "measurement": measurement}, SweepSpec, origin=origin)


_SET_BY_PRESETS = frozenset(name for values in PRESETS.values() for name in values)
