"""Vega, Vega-Lite and Vega-Embed as one script, which goes into the page so that it needs no network.

vl-convert carries all three and bundles them; that takes seconds, so the bundle is kept in the cache.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.paths import cache_folder


def chart_script(cache: Path | None = None) -> str:
    """Return the script; it defines `vegaEmbed`."""
    from importlib.metadata import version

    file = (cache or cache_folder()) / "charts" / f"vl-convert-{version('vl-convert-python')}.js"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    import vl_convert

    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg] # the stub lacks the default
    _keep(file, script)
    return script


def _keep(file: Path, script: str) -> None:
    """Write whole or not at all: two reports may be made at once. A cache that cannot be written only costs time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False) as half:
            half.write(script)
        os.replace(half.name, file)  # noqa: PTH105 - a name, not a path
    except OSError:
        return
