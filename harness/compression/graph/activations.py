"""What the operators of a graph computed in the interpreter's last run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from harness.tflite.library_types import FlatbufferObject, LiteRtInterpreter


def activations(
    model: FlatbufferObject, interpreter: LiteRtInterpreter
) -> Iterator[tuple[FlatbufferObject, NDArray[Any]]]:
    """Yield each tensor that is not a constant with its values; the interpreter preserves all tensors."""
    for place in range(model.SubgraphsLength()):
        graph = model.Subgraphs(place)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            if model.Buffers(tensor.Buffer()).DataLength():
                continue
            try:
                values = interpreter.get_tensor(index, place)
            except ValueError:  # never computed, such as a branch that was not taken
                continue
            if values.size:
                yield tensor, values


def tensor_name(tensor: FlatbufferObject) -> str:
    """Return the name of a tensor, empty if it has none."""
    return (tensor.Name() or b"").decode("utf-8")
