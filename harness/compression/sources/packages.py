"""Packages that come with an extra of harness."""

from __future__ import annotations

import importlib.util

from harness.compression.sources.reading import conversion_failed


def require_extra(package: str, extra: str, what: str) -> None:
    """Raise `CompressionError` with the pip command where an extra's package (an import name) is missing."""
    if importlib.util.find_spec(package) is None:
        raise conversion_failed(
            f"{what} needs the package {package}, which is not installed: pip install 'harness[{extra}]'."
        )
