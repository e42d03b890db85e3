"""What a model is for decides how two sets of its outputs are compared. A task registers itself: `@task("tensors")`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.tflite.tensors import FloatArray

if TYPE_CHECKING:
    from harness.evaluation.fidelity import Fidelity

Outputs = Mapping[str, FloatArray]
"""By the float model's names of them, the scored one first; the first axis is the sample."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Measure:
    """One figure about one output."""

    name: str
    unit: str
    """Empty for what has none."""
    value: float
    low: float | None = None
    """Ends of the 95 % interval over samples; None if there is none, as of an extreme."""
    high: float | None = None
    output: str = ""
    """Empty if the task looks at one output alone."""


@dataclass(frozen=True)
class TaskComparison:
    """How a variant's outputs compare with the float model's in one task."""

    measures: tuple[Measure, ...]
    fidelity: Fidelity | None = None
    """Of class scores with labels: which answers changed, and whether that is noise."""


Compare = Callable[[Outputs, Outputs, Labels | None], TaskComparison]


@dataclass(frozen=True)
class Task:
    """One use of a model."""

    name: str
    summary: str
    """The first line of its function's docstring."""
    compare: Compare
    """Takes a variant's outputs, the float model's, and labels where there are any.

    Raises `UsageError` for outputs that are none of this task.
    """


_TASKS: dict[str, Task] = {}


def task(name: str) -> Callable[[Compare], Compare]:
    """Register the decorated function as the task `name`."""

    def register(compare: Compare) -> Compare:
        if name in _TASKS:
            raise ValueError(f"two tasks are called {name!r}")
        _TASKS[name] = Task(name, (compare.__doc__ or "").strip().splitlines()[0], compare)
        return compare

    return register


def all_tasks() -> dict[str, Task]:
    """Return every task by name: each module of `tasks/` is imported once."""
    package = importlib.import_module("harness.evaluation.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_TASKS.items()))


def find_task(name: str) -> Task:
    """Return one task. Raises `UsageError`."""
    known = all_tasks()
    if name not in known:
        raise UsageError(f"There is no task {name!r}.", f"Known tasks: {', '.join(known)}.")
    return known[name]
