"""A curve in one line of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_SPAN = 0.10
"""Share of the lowest value that the full height stands for at least, so that noise does not look like a cliff."""


def curve(values: Sequence[float], *, width: int = 60) -> str:
    """Draw positive values from left to right, the lowest at the bottom; more than `width` are averaged in groups."""
    if not values:
        return ""
    groups = np.array_split(np.asarray(values, dtype=float), min(width, len(values)))
    means = np.array([group.mean() for group in groups])
    low = means.min()
    span = max(means.max() - low, _LEAST_SPAN * low)
    heights = np.round((means - low) / span * (len(_LEVELS) - 1)).astype(int)
    return "".join(_LEVELS[height] for height in heights)
