"""Describe a variant's file in a card."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from typing import Any

from harness.compression.lineage import Lineage
from harness.tflite.flatbuffer import read_graph
from harness.tflite.variant import VariantCard


def build_card(
    content: bytes, lineage: Lineage, *, seconds: float, step_facts: Sequence[dict[str, Any]] = ()
) -> VariantCard:
    """Return the card of a variant that was just made. Raises `CompressionError` when the file is not a model."""
    facts = read_graph(content, name=f"variant {lineage.recipe}")
    return VariantCard(
        **lineage.model_dump(),
        step_facts=tuple(step_facts),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        gzip_size_bytes=len(gzip.compress(content, mtime=0)),
        operators=facts.operators,
        operator_versions=facts.operator_versions,
        custom_operators=facts.custom_operators,
        weight_types=facts.weight_types,
        inputs=facts.inputs,
        outputs=facts.outputs,
        seconds=round(seconds, 3),
    )
