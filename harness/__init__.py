"""Measure compressed neural networks on real Android phones, with evidence for every number."""

__version__ = "0.1.0"
