"""Clustering: few distinct values for many weights, so that the file packs well."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import technique
from harness.compression.training.settings import UntrainedSettings


class ClusteringSettings(UntrainedSettings):
    """How many values a tensor may have. Fine-tuning follows (`epochs`, 0 for none); values stay shared in it."""

    clusters: int = Field(default=16, ge=3, le=256)
    """Distinct values a tensor, zero among them."""
    scale: Literal["channel", "tensor"] = "channel"
    """Values are shared in units of each output channel's largest weight, which int8 codes keep, or of the tensor's."""


@technique("clustering", ClusteringSettings)
def cluster(work: RecipeState, settings: ClusteringSettings) -> None:
    """Replace the weights of a tensor by a few shared values, found by k-means; zeros stay zero."""
    if work.is_graph:
        _cluster_constants(work, settings)
    else:
        _cluster_keras(work, settings)
    work.keeps_clusters = settings.clusters
    work.clusters_per_tensor = settings.scale == "tensor"
    work.report(clusters=settings.clusters)


def _cluster_keras(work: RecipeState, settings: ClusteringSettings) -> None:
    from harness.compression.training.fit import Plan, train
    from harness.compression.training.kernels import keras_kernels
    from harness.compression.training.views import settle, shared_view, zeros_view

    kernels = keras_kernels(work)
    per_tensor = settings.scale == "tensor"
    views = {
        kernel.name: [*zeros_view(work, kernel), shared_view(kernel, settings.clusters, per_tensor=per_tensor)]
        for kernel in kernels
    }
    if settings.epochs:
        train(work, settings, Plan("fine-tuning after clustering", views, views))
    else:
        settle(kernels, views)


def _cluster_constants(work: RecipeState, settings: ClusteringSettings) -> None:
    from harness.compression.training.kernels import graph_weights, input_moments
    from harness.compression.weights.clusters import share
    from harness.tflite.weights import replace_weights

    moments = input_moments(work, settings)
    shared: dict[str, Any] = {}
    weights = graph_weights(work, epochs=settings.epochs)
    for name, weight in weights.items():
        work.progress("clustering", len(weights), len(shared), "")
        kept = () if settings.scale == "tensor" else (weight.output_channel_axis,)
        shared[name] = share(
            weight.values,
            settings.clusters,
            reduced_axes=tuple(axis for axis in range(weight.values.ndim) if axis not in kept),
            moments=moments.get(name),
            output_axis=weight.output_channel_axis,
        ).values()
    work.replace_graph(replace_weights(work.graph(), shared))
