"""Storage: zeros are not written, and names that nothing needs are short."""

from __future__ import annotations

from pydantic import Field

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import TechniqueSettings, TechniqueStage, technique


class SparseStorageSettings(TechniqueSettings):
    """What is stored more tightly; the outputs stay the same, bit for bit."""

    minimum_sparsity: float = Field(default=0.5, ge=0, lt=1)
    """Weights with fewer zeros than this stay dense, and so does what would not get smaller."""
    short_names: bool = False
    """Number the tensors instead of naming them; operator profiles and `--show` then tell less."""


@technique("sparse-storage", SparseStorageSettings, stage=TechniqueStage.GRAPH)
def store(work: RecipeState, settings: SparseStorageSettings) -> None:
    """Store pruned weights as sparse tensors, which the runtime unpacks when it loads the model."""
    from harness.compression.graph.sparse_storage import store_sparse
    from harness.tflite.flatbuffer import with_short_names

    graph, report = store_sparse(work.graph(), minimum_sparsity=settings.minimum_sparsity)
    if settings.short_names:
        graph = with_short_names(graph)
    work.replace_graph(graph)
    work.report(
        sparse_tensors=len(report.stored),
        kept_dense=sorted({tensor.kept_dense for tensor in report.tensors if tensor.kept_dense}),
        bytes_saved=report.bytes_before - report.bytes_after,
        **({"advice": report.advice} if report.advice else {}),
    )
