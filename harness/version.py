"""The version of harness: lab hosts compare it, and every stored row names it."""

__version__ = "0.2.0"
