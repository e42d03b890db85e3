"""A recipe: an ordered list of techniques with their settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from harness.spec.loading import SpecModel


class Step(SpecModel):
    """One technique and its settings; the settings are checked by the technique itself."""

    technique: str
    settings: dict[str, Any] = Field(default_factory=dict)


class Recipe(SpecModel):
    """What is done to a model, in order. No steps at all gives the float model as it is."""

    name: str
    summary: str = ""
    steps: tuple[Step, ...] = ()
    target_runtime: str = "2.14"
    """Oldest TFLite runtime, as `major.minor`, that must be able to load the variant, or `current`."""
