"""Whole channels of a Keras network: which belong together, which matter, and the smaller network without the rest."""

from harness.compression.channels.groups import ChannelGraph, Group, analyse
from harness.compression.channels.importance import importance
from harness.compression.channels.rebuild import masked, rebuild, scaled_width
from harness.compression.channels.selection import choose_kept, multiply_adds

__all__ = [
    "ChannelGraph",
    "Group",
    "analyse",
    "choose_kept",
    "importance",
    "masked",
    "multiply_adds",
    "rebuild",
    "scaled_width",
]
