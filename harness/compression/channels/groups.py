"""Which channels of a network must be pruned together (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning").

Every tensor's last axis is followed from the layer that makes it to those that read it. Additions and multiplications
join what they combine; concatenations put pieces side by side. What is not understood is left whole, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from harness.compression.training.nested import flattened
from harness.errors import CompressionError, Failure, FailureClass

Untyped: TypeAlias = Any
"""A Keras model, layer or tensor: Keras has no types."""

TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
"""Their kernels hold the output channels before the input channels."""
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
MAKERS = ("Conv1D", "Conv2D", "Conv3D", *TRANSPOSED, *SEPARABLE, "Dense")
"""Layers whose output channels are new ones."""
_PASS_ON = {
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "Dropout",
    "GaussianNoise",
    "Rescaling",
    "Relu",
    "Relu6",
    "HardSigmoid",
    "HardSilu",
    "HardSwish",
    "Sigmoid",
    "Silu",
    "Swish",
    "Tanh",
    "Gelu",
    "Identity",
    *(
        f"{kind}{axes}D"
        for axes in (1, 2, 3)
        for kind in (
            *("AveragePooling", "Cropping", "GlobalAveragePooling", "GlobalMaxPooling", "MaxPooling"),
            *("SpatialDropout", "UpSampling", "ZeroPadding"),
        )
    ),
}
_COMBINE = {"Add", "Multiply", "Subtract", "Average", "Maximum", "Minimum", "Divide", "TrueDivide"}


@dataclass(frozen=True)
class ChannelLayout:
    """What lies along a tensor's last axis: pieces, each of one space, the whole repeated (after a Flatten)."""

    pieces: tuple[int, ...]
    """Space numbers."""
    repeats: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that are kept or removed together in every layer that makes or changes them."""

    number: int
    channels: int
    makers: tuple[Untyped, ...]
    """The layers that make these channels."""
    scalers: tuple[Untyped, ...]
    """Batch normalizations of these channels alone."""


@dataclass
class ChannelGraph:
    """A functional network with the layout of every layer's channels."""

    model: Untyped
    reads: dict[Untyped, ChannelLayout] = field(default_factory=dict)
    """What each layer or other operation reads first."""
    makes: dict[Untyped, ChannelLayout] = field(default_factory=dict)
    """What each layer or other operation writes."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Channels of each space."""
    fixed: dict[int, str] = field(default_factory=dict)
    """Why a space stays whole."""
    _parents: dict[int, int] = field(default_factory=dict)

    def find(self, space: int) -> int:
        """Return the number that a space goes by, after all joins."""
        while self._parents[space] != space:
            space = self._parents[space]
        return space

    def new_space(self, channels: int, *, fixed: str = "") -> ChannelLayout:
        """Return the layout of channels that were not there before."""
        number = len(self._parents)
        self._parents[number], self.sizes[number] = number, channels
        if fixed:
            self.fixed[number] = fixed
        return ChannelLayout((number,))

    def fix(self, layout: ChannelLayout, reason: str) -> None:
        """Leave every piece of a layout whole."""
        for space in layout.pieces:
            self.fixed.setdefault(self.find(space), reason)

    def join(self, one: ChannelLayout, other: ChannelLayout) -> None:
        """Make two layouts' channels stay or go together; leave both whole where their pieces do not match."""
        if one.repeats != other.repeats or self._widths(one) != self._widths(other):
            for layout in (one, other):
                self.fix(layout, "combined with channels that are divided differently")
            return
        for a, b in zip(one.pieces, other.pieces, strict=True):
            root, joined = self.find(a), self.find(b)
            if root != joined:
                self._parents[joined] = root
                if joined in self.fixed:
                    self.fixed.setdefault(root, self.fixed[joined])

    def _widths(self, layout: ChannelLayout) -> list[int]:
        return [self.sizes[self.find(space)] for space in layout.pieces]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that may be pruned, in the network's order."""
        makers: dict[int, list[Untyped]] = {}
        scalers: dict[int, list[Untyped]] = {}
        for operation, layout in self.makes.items():
            kind = type(operation).__name__
            if len(layout.pieces) == 1:
                target = makers if kind in MAKERS else scalers if kind == "BatchNormalization" else {}
                target.setdefault(self.find(layout.pieces[0]), []).append(operation)
        free = [number for number in makers if number not in self.fixed]
        return tuple(
            Group(number, self.sizes[number], tuple(makers[number]), tuple(scalers.get(number, ()))) for number in free
        )


def analyse(model: Untyped) -> ChannelGraph:
    """Follow the channels through a functional or sequential Keras model. Raises `CompressionError`.

    A model in which nothing can be pruned is refused, with the reasons.
    """
    import keras

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise _refused("The Keras model has no inputs of known shape: build it, or save it as a functional model.")
    model = flattened(model)
    foremost = [layer.name for layer in model.layers if getattr(layer, "data_format", "") == "channels_first"]
    if foremost:
        raise _refused(f"The model has its channels first ({foremost[0]}): build it with channels last.")
    graph = ChannelGraph(model)
    layouts: dict[int, ChannelLayout] = {}
    for tensor in model.inputs:
        layouts[id(tensor)] = graph.new_space(_channels(tensor), fixed="an input of the model")
    for node in _nodes(model):
        _follow(graph, layouts, node)
    for tensor in model.outputs:
        graph.fix(layouts[id(tensor)], "an output of the model")
    if not graph.groups:
        reasons = ", ".join(sorted(set(graph.fixed.values())))
        raise _refused(f"No layer of {model.name} has channels that could be removed ({reasons}).")
    return graph


def _nodes(model: Untyped) -> Iterable[Untyped]:
    """Yield the nodes of the graph, each after those that it reads."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)


def _follow(graph: ChannelGraph, layouts: dict[int, ChannelLayout], node: Untyped) -> None:
    operation, kind = node.operation, type(node.operation).__name__
    inputs = [layouts[id(tensor)] for tensor in node.input_tensors]
    output = node.outputs[0]
    if operation in graph.reads:
        reason = f"{operation.name} is used more than once"
        for layout in (*inputs, graph.reads[operation], graph.makes[operation]):
            graph.fix(layout, reason)
        made = graph.new_space(_channels(output), fixed=reason)
    else:
        made = _layout(graph, node, kind, inputs)
    if inputs:
        graph.reads[operation] = inputs[0]
    graph.makes[operation] = made
    for tensor in node.outputs:
        layouts[id(tensor)] = made


def _layout(graph: ChannelGraph, node: Untyped, kind: str, inputs: list[ChannelLayout]) -> ChannelLayout:
    """Return what an operation writes, and note what it demands of what it reads."""
    operation, output = node.operation, node.outputs[0]
    last_axis = (-1, len(output.shape) - 1)
    plain = getattr(operation, "groups", 1) == 1 and getattr(operation, "depth_multiplier", 1) == 1
    mixes = _is_softmax(operation) or _has_constant_a_channel(node)
    if kind in MAKERS and plain:
        reason = f"a softmax ends {operation.name}" if _is_softmax(operation) else ""
        return graph.new_space(_channels(output), fixed=reason)
    if not mixes and (
        kind in _PASS_ON
        or (kind in DEPTHWISE and plain)
        or (kind == "BatchNormalization" and operation.axis in last_axis)
        or (kind == "Reshape" and _keeps_channels(node))
    ):
        return inputs[0]
    if kind in _COMBINE and inputs and not mixes:
        return _combined(graph, node, inputs)
    if kind == "Concatenate" and operation.axis in last_axis:
        return ChannelLayout(tuple(space for layout in inputs for space in layout.pieces), inputs[0].repeats)
    if kind == "Flatten" and inputs[0].repeats == 1:
        source = node.input_tensors[0]
        return ChannelLayout(inputs[0].pieces, _channels(output) // _channels(source))
    reason = f"{operation.name} ({kind}) may mix or count channels"
    for layout in inputs:
        graph.fix(layout, reason)
    return graph.new_space(_channels(output), fixed=reason)


def _combined(graph: ChannelGraph, node: Untyped, inputs: list[ChannelLayout]) -> ChannelLayout:
    """Join what is combined element by element; what has a single channel is spread over the others'."""
    width = _channels(node.outputs[0])
    wide = [layout for tensor, layout in zip(node.input_tensors, inputs, strict=True) if _channels(tensor) == width]
    for layout in inputs:
        if layout in wide:
            graph.join(wide[0], layout)
        else:
            graph.fix(layout, "spread over other channels")
    return wide[0]


def _is_softmax(operation: Untyped) -> bool:
    """Return True if every output depends on all channels: a channel of zeros still counts in the sum."""
    import keras

    return getattr(operation, "activation", None) is keras.activations.softmax


def _has_constant_a_channel(node: Untyped) -> bool:
    """Return True if an operation holds a number per channel that is not a weight and so would not be cut."""
    constants = [value for value in (*node.arguments.args, *node.arguments.kwargs.values()) if hasattr(value, "shape")]
    known = {id(tensor) for tensor in node.input_tensors}
    own = [getattr(node.operation, name, 0) for name in ("scale", "offset")] if _is_rescaling(node.operation) else []
    return any(np.size(value) > 1 for value in own) or any(
        id(value) not in known and math.prod(value.shape) > 1 for value in constants
    )


def _is_rescaling(operation: Untyped) -> bool:
    return type(operation).__name__ == "Rescaling"


def _keeps_channels(node: Untyped) -> bool:
    """Return True if a Reshape only adds or drops axes of size 1 before the channels."""
    before, after = node.input_tensors[0].shape[1:], node.outputs[0].shape[1:]
    return before[-1] == after[-1] and [size for size in before if size != 1] == [size for size in after if size != 1]


def _channels(tensor: Untyped) -> int:
    return int(tensor.shape[-1] or 1) if len(tensor.shape) > 1 else 1


def _refused(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
