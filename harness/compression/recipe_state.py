"""What a recipe's steps work on: a Keras model until a step asks for the graph, a `.tflite` graph from then on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec
from harness.tflite.library_types import JsonValue, KerasModel


@dataclass(frozen=True)
class WorkerServices:
    """What a workpiece gets from the worker that carries out the recipe."""

    load_keras_model: Callable[[], Any]
    load_graph: Callable[[], bytes]
    """Return the float graph of the untouched model."""
    convert: Callable[[Any], bytes]
    kept_folder: Path
    """Where anything is kept that another recipe could use."""
    step_folder: Callable[[int], Path]
    """Folder in which the step with that index keeps results to reuse; recipes that begin alike share it."""
    progress: Callable[[str, int, int, str], None]
    """Receives the name of the work, its number of steps, how many are done, and a few words more."""


class RecipeState:
    """A model on its way through a recipe. Loading and converting wait until a step needs them.

    Techniques that train change the Keras model; techniques on the graph come after them.
    """

    def __init__(self, model: ModelSpec, target_runtime: str, surroundings: WorkerServices) -> None:
        self.model = model
        self.target_runtime = target_runtime
        self.keeps_zeros = False
        """A step has pruned: later steps leave its zeros zero."""
        self.keeps_clusters: int | None = None
        """A step has left this many distinct values: later steps keep their weights shared."""
        self.clusters_per_tensor = False
        """The values are shared by a whole tensor, not in units of each channel's scale."""
        self.facts: list[dict[str, Any]] = []
        """What each step has to say for the variant's card."""
        self._surroundings = surroundings
        self._step = 0
        self._keras_model: Any = None
        self._graph: bytes | None = None

    def begin_step(self, index: int, technique: str) -> None:
        """Turn to the recipe's next step."""
        self._step = index
        self.facts.append({"technique": technique})

    def report(self, **facts: JsonValue) -> None:
        """Add to what the card says about this step."""
        self.facts[-1].update(facts)

    def progress(self, doing: str, total: int, done: int, more: str) -> None:
        """Tell the observer how far long work has come."""
        self._surroundings.progress(doing, total, done, more)

    def step_folder(self) -> Path:
        """Return where this step may keep what it would not like to do twice."""
        return self._surroundings.step_folder(self._step)

    def kept_folder(self) -> Path:
        """Return where anything is kept that another recipe could use."""
        return self._surroundings.kept_folder

    @property
    def is_graph(self) -> bool:
        """Return True if the Keras model has been left behind."""
        return self._graph is not None

    def keras_model(self) -> KerasModel:
        """Return the Keras model. Raises `CompressionError` if there is none, or no longer."""
        if self._graph is not None:
            raise CompressionError(
                Failure(
                    FailureClass.CONVERSION_FAILED,
                    "A step that trains comes after a step on the converted graph: training has to come first.",
                )
            )
        if self._keras_model is None:
            self._keras_model = self.float_model()
        return self._keras_model

    def float_model(self) -> KerasModel:
        """Return a fresh copy of the untouched Keras model, which may teach a smaller one."""
        return self._surroundings.load_keras_model()

    def replace_keras_model(self, keras_model: KerasModel) -> None:
        """Put a changed Keras model in place of the one before."""
        self._keras_model = keras_model

    def graph(self) -> bytes:
        """Return the `.tflite` graph, converted now if it has not been yet."""
        if self._graph is None:
            changed = self._keras_model is not None
            convert = self._surroundings.convert
            self._graph = convert(self._keras_model) if changed else self._surroundings.load_graph()
        return self._graph

    def float_graph(self) -> bytes:
        """Return the graph of the untouched model, which accuracy is compared with."""
        return self._surroundings.load_graph()

    def replace_graph(self, graph: bytes) -> None:
        """Put a changed graph in place of the one before."""
        self._graph = graph
