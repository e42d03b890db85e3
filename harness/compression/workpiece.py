"""What a recipe's steps work on: a Keras model until a step asks for the graph, a `.tflite` graph from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec


class Workpiece:
    """A model on its way through a recipe. Loading and converting wait until a step needs them.

    Techniques that train change the Keras model; techniques on the graph come after them.
    """

    def __init__(
        self,
        model: ModelSpec,
        target_runtime: str,
        *,
        load_keras_model: Callable[[], Any],
        load_graph: Callable[[], bytes],
        convert: Callable[[Any], bytes],
    ) -> None:
        self.model = model
        self.target_runtime = target_runtime
        self._load_keras_model = load_keras_model
        self._load_graph = load_graph
        self._convert = convert
        self._keras_model: Any = None
        self._graph: bytes | None = None

    def keras_model(self) -> Any:  # noqa: ANN401 - Keras has no types
        """Return the Keras model. Raises `CompressionError` where there is none, or no longer."""
        if self._graph is not None:
            raise CompressionError(
                Failure(
                    FailureClass.CONVERSION_FAILED,
                    "A step that trains comes after a step on the converted graph: training has to come first.",
                )
            )
        if self._keras_model is None:
            self._keras_model = self._load_keras_model()
        return self._keras_model

    def replace_keras_model(self, keras_model: Any) -> None:  # noqa: ANN401 - Keras has no types
        """Put a changed Keras model in place of the one before."""
        self._keras_model = keras_model

    def graph(self) -> bytes:
        """Return the `.tflite` graph, converted now if it has not been yet."""
        if self._graph is None:
            changed = self._keras_model is not None
            self._graph = self._convert(self._keras_model) if changed else self._load_graph()
        return self._graph

    def replace_graph(self, graph: bytes) -> None:
        """Put a changed graph in place of the one before."""
        self._graph = graph
