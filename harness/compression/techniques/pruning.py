"""Pruning: weights that matter least become zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import technique
from harness.compression.training.settings import UntrainedSettings
from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import KerasCallback, KerasLogs, KerasModel, KerasTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.tflite.weights import Weight

    Arrays = Mapping[str, NDArray[np.floating[Any]]]
    Masks = dict[str, NDArray[np.bool_]]

_GRADUAL_CHANGES = 30


class PruningSettings(UntrainedSettings):
    """Which weights become zero, and when. Fine-tuning follows (`epochs`, 0 for none); zeros stay zero in it."""

    sparsity: float = Field(default=0.5, gt=0, lt=1)
    """Share of zeros among all kernels in the end; `pattern = "n:m"` fixes it by itself."""
    scope: Literal["global", "local", "lamp"] = "global"
    """Rank the weights of all layers together, of each layer alone, or together by layer-adaptive score."""
    pattern: Literal["single", "block", "n:m"] = "single"
    block: int = Field(default=4, ge=2, le=64)
    """Weights in a row along the input channels that stay or go together."""
    n: int = Field(default=2, ge=1, le=63)
    m: int = Field(default=4, ge=2, le=64)
    """Of every `m` weights along the input channels, the `n` largest stay."""
    depthwise: bool = False
    """Prune the kernels of depthwise convolutions too: they are few, and each weight of them matters."""
    schedule: Literal["one-shot", "gradual"] = "one-shot"
    """All at once before fine-tuning, or little by little during it."""
    ramp: float = Field(default=0.75, gt=0, le=1)
    """A gradual schedule reaches its sparsity after this share of the training; the rest heals."""
    start: Literal["trained", "fresh"] = "trained"
    """`fresh` forgets the trained weights after choosing the zeros: pruning before training."""

    @model_validator(mode="after")
    def _settings_fit(self) -> PruningSettings:
        if self.n >= self.m:
            raise ValueError("n must be smaller than m")
        if self.epochs == 0 and (self.schedule == "gradual" or self.start == "fresh"):
            raise ValueError('schedule = "gradual" and start = "fresh" need epochs')
        if self.pattern == "n:m" and self.schedule == "gradual":
            raise ValueError('pattern = "n:m" is one-shot: it has no sparsity to grow')
        return self


@technique(
    "pruning",
    PruningSettings,
    refused_after={"clustering": "clusters would lose members to zero; prune first, clustering keeps the zeros"},
)
def prune(work: RecipeState, settings: PruningSettings) -> None:
    """Set the weights to zero that matter least, by magnitude or by what they add to the outputs."""
    if work.is_graph:
        _prune_constants(work, settings)
    else:
        _prune_keras(work, settings)
    work.keeps_zeros = True


def _prune_keras(work: RecipeState, settings: PruningSettings) -> None:
    from harness.compression.training.fit import Plan, train
    from harness.compression.training.kernels import keras_kernels
    from harness.compression.training.views import Masked, settle
    from harness.compression.weights.masks import sparsity_of

    every = keras_kernels(work)
    kernels = [kernel for kernel in every if settings.depthwise or not kernel.is_depthwise] or every

    spread = _spread(work, settings, kernels, every)

    def masks(sparsity: float) -> Masks:
        weights = {kernel.name: kernel.variable.numpy() for kernel in kernels}
        # Kernels hold the input channels on the last axis but one, depthwise ones on none.
        return choose_masks(weights, settings, sparsity * spread, input_axis=lambda weight: weight.ndim - 2)

    gradual = settings.schedule == "gradual"
    views = {name: [Masked(mask)] for name, mask in masks(0.0 if gradual else settings.sparsity).items()}
    if settings.start == "fresh":
        _forget(work.keras_model(), settings.seed)
    if settings.epochs:
        callbacks = (_gradual(views, masks, settings),) if gradual else ()
        doing = "pruning while training" if gradual else "fine-tuning after pruning"
        train(work, settings, Plan(doing, views, views, callbacks=callbacks))
    else:
        settle(kernels, views)
    work.report(sparsity=round(sparsity_of({kernel.name: kernel.variable.numpy() for kernel in every}), 4))


def _prune_constants(work: RecipeState, settings: PruningSettings) -> None:
    import numpy as np

    from harness.compression.training.kernels import graph_weights, input_moments
    from harness.compression.weights.error_aware import in_place, make_up, rows_of
    from harness.compression.weights.masks import sparsity_of
    from harness.tflite.weights import replace_weights

    moments = input_moments(work, settings)
    weights = graph_weights(work, epochs=settings.epochs)
    every = {name: weight.values for name, weight in weights.items()}
    dense = [name for name in every if weights[name].operator != "DEPTHWISE_CONV_2D"]
    found = every if settings.depthwise or not dense else {name: every[name] for name in dense}
    spread = _spread(work, settings, [*found.values()], [*every.values()])
    is_comparable = settings.scope != "global" or found.keys() <= moments.keys()  # else sizes of unlike units
    sizes = {name: _size_in_outputs(weights[name], moments.get(name) if is_comparable else None) for name in found}
    masks = choose_masks(sizes, settings, settings.sparsity * spread, input_axis=lambda weight: weight.ndim - 1)
    pruned: dict[str, Any] = {}
    for name, mask in masks.items():
        work.progress("making up for what is gone", len(masks), len(pruned), "")
        values, axis = found[name], weights[name].output_channel_axis
        pruned[name] = values * mask
        if name in moments:
            changed = make_up(rows_of(values, axis), rows_of(mask, axis), moments[name])
            pruned[name] = in_place(changed, values.shape, axis).astype(np.float32)
    work.replace_graph(replace_weights(work.graph(), pruned))
    work.report(sparsity=round(sparsity_of(every | pruned), 4))


def _size_in_outputs(weight: Weight, moments: NDArray[np.float64] | None) -> NDArray[np.floating[Any]]:
    """Return what of a layer's outputs would be gone with each weight; the weights themselves if nothing is known."""
    import numpy as np

    from harness.compression.weights.error_aware import MAKE_UP_DAMPING, in_place, rows_of, sensitivities

    if moments is None:
        return weight.values
    rows = rows_of(weight.values, weight.output_channel_axis)
    sizes = rows * np.sqrt(sensitivities(moments, MAKE_UP_DAMPING))
    return in_place(sizes, weight.values.shape, weight.output_channel_axis)


def _spread(work: RecipeState, settings: PruningSettings, pruned: Sequence[Any], every: Sequence[Any]) -> float:
    """Return by how much more the pruned kernels must give, since the others give nothing."""
    spread = float(sum(kernel.size for kernel in every) / sum(kernel.size for kernel in pruned))
    if settings.sparsity * spread >= 1:
        message = (
            f"{work.model.name} cannot have {100 * settings.sparsity:.0f} % zeros: without its depthwise kernels "
            f"at most {100 / spread:.0f} % could go. Lower sparsity, or set depthwise = true."
        )
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
    return spread


def choose_masks(
    weights: Arrays,
    settings: PruningSettings,
    sparsity: float,
    *,
    input_axis: Callable[[NDArray[np.floating[Any]]], int],
) -> Masks:
    """Return the masks that the settings ask for, at a sparsity that a schedule may change."""
    from harness.compression.weights.masks import block_scores, magnitude_masks, n_of_m_mask

    axes = {name: input_axis(weight) for name, weight in weights.items()}
    if settings.pattern == "n:m":
        return {name: n_of_m_mask(weight, settings.n, settings.m, axes[name]) for name, weight in weights.items()}
    if settings.pattern == "block":
        weights = {name: block_scores(weight, settings.block, axes[name]) for name, weight in weights.items()}
    return magnitude_masks(weights, sparsity, settings.scope)


def _gradual(views: Mapping[str, Any], masks: KerasTensor, settings: PruningSettings) -> KerasCallback:
    """Return the callback that raises the sparsity step by step; a weight may come back until the schedule ends."""
    import keras

    from harness.compression.weights.masks import polynomial_sparsity

    class Gradual(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
        def on_train_begin(self, logs: KerasLogs = None) -> None:
            self.last = max(1, int(settings.ramp * settings.epochs * self.params["steps"]))
            self.every = max(1, self.last // _GRADUAL_CHANGES)

        def on_train_batch_begin(self, batch: int, logs: KerasLogs = None) -> None:
            step = int(self.model.optimizer.iterations.numpy())
            if (step <= self.last and step % self.every == 0) or step == self.last:
                for name, mask in masks(polynomial_sparsity(settings.sparsity, step, self.last)).items():
                    views[name][0].change(mask)

    return Gradual()


def _forget(network: KerasModel, seed: int) -> None:
    """Give every weight a fresh start."""
    import keras

    from harness.compression.training.kernels import copy_adapted

    keras.utils.set_random_seed(seed)
    fresh = keras.models.clone_model(network)
    copy_adapted(network, fresh)
    network.set_weights(fresh.get_weights())
