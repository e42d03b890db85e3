"""LiteRT's Python interpreter as a benchmark program for this host."""

FAMILIES = ("litert-python",)
