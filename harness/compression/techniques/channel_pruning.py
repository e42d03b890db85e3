"""Channel pruning: whole channels go, and the network becomes truly smaller and faster."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import technique
from harness.compression.training.settings import TrainingSettings

TAYLOR_IMAGES = 512
"""Images whose gradients judge the channels."""

_SHAPES = "weights change their shapes, so zeros and shared values found before are lost; prune channels first"


class ChannelPruningSettings(TrainingSettings):
    """How much smaller, and by which measure. Fine-tuning follows (`epochs`, 0 for none)."""

    multiply_adds: float = Field(default=0.5, gt=0, lt=1)
    """At most this share of the multiply-adds is left."""
    importance: Literal["magnitude", "batch-norm", "taylor"] = "magnitude"
    """Judge a channel by its filters' length, by the scale of its batch normalization, or by the loss's gradient."""
    scope: Literal["uniform", "global"] = "uniform"
    """Every group of layers gives the same share, or the least important channels of all go."""
    multiple: int = Field(default=8, ge=1, le=64)
    """Channels left are a multiple of this, which kernels like."""


@technique("channel-pruning", ChannelPruningSettings, refused_after=dict.fromkeys(("pruning", "clustering"), _SHAPES))
def prune_channels(work: RecipeState, settings: ChannelPruningSettings) -> None:
    """Remove whole channels across the network, residual connections included, and rebuild it smaller."""
    from harness.compression import channels
    from harness.compression.training.fit import Plan, train

    network = work.keras_model()
    graph = channels.analyse(network)
    scores = channels.importance(graph, settings.importance, **_evidence(work, settings))
    kept = channels.choose_kept(
        graph, scores, multiply_adds=settings.multiply_adds, scope=settings.scope, multiple=settings.multiple
    )
    smaller = channels.rebuild(graph, kept)
    work.replace_keras_model(smaller)
    if settings.epochs:
        train(work, settings, Plan("fine-tuning after channel pruning", {}, {}))
    work.report(
        multiply_adds=channels.multiply_adds(smaller),
        multiply_adds_before=channels.multiply_adds(graph.model),
        channels_kept=sum(map(len, kept.values())),
        channels_before=sum(map(len, scores.values())),
    )


def _evidence(work: RecipeState, settings: ChannelPruningSettings) -> dict[str, Any]:
    """Return the images and labels that a gradient needs."""
    if settings.importance != "taylor":
        return {}
    from harness.compression.training.fit import load_fitting_data
    from harness.datasets.training import as_input

    data = load_fitting_data(work, limit=TAYLOR_IMAGES).training
    return {"images": as_input(data.images, work.model.preprocessing), "labels": data.labels}
