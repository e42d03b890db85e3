"""Which techniques there are. A technique registers itself: `@technique("quantization", SettingsType)`.

Listing them imports one small module each, which must import nothing heavy at its top level.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import UsageError
from harness.spec.loading import SpecModel, validate_spec
from harness.spec.recipe import Step

if TYPE_CHECKING:
    from harness.compression.calibration import CalibrationRequest
    from harness.compression.recipe_state import RecipeState


class TechniqueSettings(SpecModel):
    """Base of every technique's settings: all have defaults, unknown keys are refused."""

    def calibration_request(self) -> CalibrationRequest | None:
        """Return which calibration data these settings need, None for none."""
        return None

    def works_on_graph(self) -> bool:
        """Return True if these settings change the constants of a graph, and need no Keras model."""
        return False

    def needs_training_data(self) -> bool:
        """Return True if these settings train, and so need labelled images."""
        return False


class TechniqueStage(StrEnum):
    """What a technique changes, which decides the order of a recipe's steps."""

    WEIGHTS = "weights"
    """The Keras model, or the float constants of a `.tflite` file; these come first."""
    GRAPH = "graph"
    """The converted graph."""


SettingsType = TypeVar("SettingsType", bound=TechniqueSettings)


@dataclass(frozen=True)
class Technique:
    """One compression method."""

    name: str
    summary: str
    """The first line of its function's docstring."""
    settings_type: type[TechniqueSettings]
    stage: TechniqueStage
    refused_after: Mapping[str, str]
    """Why this technique may not follow another, by that one's name."""
    apply: Callable[[RecipeState, Any], None]
    """Change the workpiece; raises `CompressionError`."""

    def settings(self, step: Step, *, origin: str) -> TechniqueSettings:
        """Validate the settings of one step. Raises `UsageError` whose sentence starts with `origin`."""
        return validate_spec(step.settings, self.settings_type, origin=f"{origin}, settings of {self.name}")


_TECHNIQUES: dict[str, Technique] = {}


def technique(
    name: str,
    settings_type: type[SettingsType],
    *,
    stage: TechniqueStage = TechniqueStage.WEIGHTS,
    refused_after: Mapping[str, str] | None = None,
) -> Callable[[Callable[[RecipeState, SettingsType], None]], Callable[[RecipeState, SettingsType], None]]:
    """Register the decorated function as the technique `name`."""

    def register(apply: Callable[[RecipeState, SettingsType], None]) -> Callable[[RecipeState, SettingsType], None]:
        if name in _TECHNIQUES:
            raise ValueError(f"two techniques are called {name!r}")
        summary = (apply.__doc__ or "").strip().splitlines()[0]
        _TECHNIQUES[name] = Technique(name, summary, settings_type, stage, refused_after or {}, apply)
        return apply

    return register


def all_techniques() -> dict[str, Technique]:
    """Return every technique by name: each module of `techniques/` is imported once."""
    package = importlib.import_module("harness.compression.techniques")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_TECHNIQUES.items()))


def get_technique(name: str, *, origin: str) -> Technique:
    """Return one technique. Raises `UsageError` whose sentence starts with `origin`."""
    known = all_techniques()
    if name not in known:
        raise UsageError(
            f"{origin}: unknown technique {name!r}.", f"Known techniques: {', '.join(known)} (see `harness recipes`)."
        )
    return known[name]
