"""Names for values of libraries that carry no types: one alias per kind, so that a signature says what it takes."""

from typing import Any

KerasModel = Any
"""A Keras network or layer."""
KerasTensor = Any
"""A symbolic tensor, a variable or a batch inside a Keras network."""
KerasCallback = Any
KerasLogs = Any
"""What Keras hands to a callback."""
TensorFlowFunction = Any
"""A loaded SavedModel, one of its signatures, or a tensor's specification."""
TensorFlowMessage = Any
"""A protocol buffer of TensorFlow: a graph, one of its operations, or an attribute."""
FlatbufferObject = Any
"""A table of the classes generated from TFLite's schema: model, subgraph, operator, tensor or options."""
LiteRtInterpreter = Any
QuantizerRecipe = Any
"""A recipe of litert-quantizer, or one of its settings."""
TorchProgram = Any
"""A program of PyTorch's torch.export, or one of its tensors."""
OnnxModel = Any
"""An ONNX model, or one of its messages."""
JsonValue = Any
"""Anything that JSON can hold."""
