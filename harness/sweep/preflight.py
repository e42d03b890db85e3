"""Check all that a sweep needs before anything is made or stored: a typo costs a second, not a night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.benchmark.delegates import find_delegate
from harness.benchmark.registry import ToolRegistry
from harness.compression.recipes import find_recipe
from harness.compression.sources.load import source_digest, source_file
from harness.errors import CompressionError, HarnessError, MissingPrerequisiteError, UsageError
from harness.paths import require_cache
from harness.progress import Observer
from harness.spec.model import ModelSpec
from harness.spec.sweep import SweepSpec
from harness.sweep.device_source import DeviceSource
from harness.tflite.flatbuffer import read_graph

_KERAS_FILES = (b"PK", b"\x89HDF")
"""How a zip archive and an HDF5 file begin."""


@dataclass(frozen=True)
class CheckedSweep:
    """The devices of a sweep whose spec is sound."""

    names: tuple[str, ...]
    takes_new: bool
    """True if phones that are attached while the sweep runs belong to it too."""
    delegates: Mapping[str, Sequence[str]]
    """By device that can be measured, the delegates."""


def check_sweep(
    spec: SweepSpec, source: DeviceSource, observer: Observer, *, registry: ToolRegistry | None = None
) -> CheckedSweep:
    """Check a spec, this computer and the devices.

    A device that cannot be measured is reported; the sweep goes on if another can. Raises `UsageError` for a bad spec,
    and `MissingPrerequisiteError` if no device can be measured.
    """
    check_spec(spec)
    require_cache()
    targets = source.targets(spec.devices)
    if targets.notice:
        observer.note(targets.notice)
    checks = source.check(targets.names, registry or ToolRegistry(report=observer.note))
    problems = [check.problem for check in checks if check.problem]
    if len(problems) == len(checks):
        raise _nothing_to_run_on(problems)
    for problem in problems:
        observer.warn(f"{problem} {problem.advice}")
    usable = {check.name: spec.delegates or check.delegates for check in checks if not check.problem}
    return CheckedSweep(targets.names, targets.takes_new, usable)


def check_spec(spec: SweepSpec) -> None:
    """Look for the model, the recipes and the delegates of a spec. Raises `UsageError`."""
    for delegate in spec.delegates:
        find_delegate(delegate)
    for recipe in spec.recipes:
        find_recipe(recipe)
    check_model(spec.find_model())


def check_model(model: ModelSpec) -> None:
    """Raise `MissingPrerequisiteError` if a model's file is missing, or does not hold what its name says."""
    file = source_file(model)
    try:
        source_digest(model)
        if file and model.source.kind == "tflite":
            read_graph(file.read_bytes(), name=str(file))
    except CompressionError as error:
        raise MissingPrerequisiteError(str(error), error.advice) from error
    if file and model.source.kind == "keras":
        with file.open("rb") as opened:
            if not opened.read(4).startswith(_KERAS_FILES):
                raise MissingPrerequisiteError(
                    f"{file} is not a Keras file.", "Save it again with `model.save`, as NAME.keras."
                )


def _nothing_to_run_on(problems: Sequence[HarnessError]) -> HarnessError:
    usage = next((problem for problem in problems if isinstance(problem, UsageError)), None)
    reasons = "\n".join(dict.fromkeys(map(str, problems)))
    return usage or MissingPrerequisiteError(reasons, problems[0].advice)
