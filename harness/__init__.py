"""Measure compressed neural networks on real Android phones, with evidence for every number."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import harness.report
import harness.sweep
from harness.version import __version__

if TYPE_CHECKING:
    from harness.api import bench, compare, compress, decide, load_results, measure_noise, read_export, write_export

__all__ = [
    "__version__",
    "bench",
    "compare",
    "compress",
    "decide",
    "load_results",
    "measure_noise",
    "read_export",
    "report",
    "sweep",
    "write_export",
]


class _CallablePackage(ModuleType):
    """A package named like a job: `harness.sweep(...)` runs a sweep, `harness.sweep.runner` stays a module."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the signature is that of harness.api
        return getattr(import_module("harness.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


logging.getLogger("harness").addHandler(logging.NullHandler())
for _package in (harness.report, harness.sweep):
    _package.__class__ = _CallablePackage


def __getattr__(name: str) -> object:
    """Load the API on first use, so that `import harness` is instant."""
    if name in __all__:
        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
