"""Cut a variant into stages, prove the chain, and keep the stages as variants of their own."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.partition.check import check_chain, random_inputs
from harness.partition.graph import Graph
from harness.partition.split import Stage, split
from harness.tflite.flatbuffer import read_graph
from harness.tflite.variant import Variant


@dataclass(frozen=True)
class CutStage:
    """One stage of a partition."""

    variant: Variant
    steps: int
    """Operators that depend on the model's input."""
    first: str
    """The first of them, by its kind."""
    last: str
    taken_bytes: int
    """What crosses into it from earlier stages, for one inference."""


@dataclass(frozen=True)
class Partition:
    """A variant in stages."""

    whole: Variant
    cuts: tuple[int, ...]
    """Positions in the order of execution, counted in operators that depend on the input."""
    cut_after: tuple[str, ...]
    """The tensors that the last operator before each cut writes, by name."""
    stages: tuple[CutStage, ...]
    differences: dict[str, str]
    """By kernels: how the chain differs from the whole; empty if every bit agrees."""

    @property
    def exact(self) -> bool:
        """Return True if the chain computes what the whole does, bit for bit, on all kernels that were tried."""
        return not any(self.differences.values())


def partition(whole: Variant, graph: Graph, cuts: Sequence[int], folder: Path) -> Partition:
    """Cut, prove and write `MODEL-RECIPE-KofN.tflite` with a card next to each.

    Raises `CompressionError` if the model does not run on this host, `UsageError` if nothing can be written.
    """
    content = whole.path.read_bytes()
    parts = split(content, graph, cuts)
    differences = check_chain(content, graph, parts, random_inputs(graph))
    written = set(graph.inputs)
    stages = []
    for place, part in enumerate(parts):
        stage = _keep(whole, part, place + 1, len(parts), folder)
        own = [index for index in part.operators if index not in graph.constant_operators]
        taken = [tensor for tensor in part.inputs if tensor not in graph.inputs and tensor in written]
        written.update(part.outputs)
        stages.append(
            CutStage(
                stage,
                steps=len(own),
                first=graph.operators[own[0]].name,
                last=graph.operators[own[-1]].name,
                taken_bytes=sum(graph.tensors[tensor].size_bytes for tensor in taken),
            )
        )
    last_before = [graph.operators[graph.steps[cut - 1]].outputs[0] for cut in cuts]
    names = tuple(graph.tensors[tensor].name for tensor in last_before)
    return Partition(whole, tuple(cuts), names, tuple(stages), differences)


def _keep(whole: Variant, part: Stage, number: int, count: int, folder: Path) -> Variant:
    name = f"{whole.name}-{number}of{count}"
    changes = {
        **vars(read_graph(part.content, name=name)),
        "recipe": name,
        "steps": (*whole.card.steps, {"technique": "partitioning", "stage": number, "stages": count}),
        "sha256": hashlib.sha256(part.content).hexdigest(),
        "size_bytes": len(part.content),
        "gzip_size_bytes": len(gzip.compress(part.content, mtime=0)),
    }
    card = whole.card.model_copy(update=changes)
    path = folder / f"{Path(whole.card.model).stem}-{name}.tflite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.content)
        path.with_suffix(".json").write_text(card.model_dump_json(indent=2), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Choose another folder: --output.") from error
    return Variant(path, card)
