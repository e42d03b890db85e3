"""Measure compressed neural networks on real Android phones, with evidence for every number."""

from harness.api import load_results, read_export, write_export
from harness.version import __version__

__all__ = ["__version__", "load_results", "read_export", "write_export"]
