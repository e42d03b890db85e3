"""PyTorch programs, `.pt2` files of `torch.export.save`, turned into a float graph by litert-torch of `pytorch`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from harness.compression.sources.packages import require_extra
from harness.compression.sources.program_check import check_program
from harness.compression.sources.reading import conversion_failed, first_line, invalid_model, read_source_file

_IMAGE_RANK = 4


def convert_exported_program(path: Path) -> bytes:
    """Return the float graph with a batch of one. Raises `CompressionError`.

    Tensors of four dimensions become channels-last, (1, height, width, channels), at both ends of the graph: delegates
    and calibration images want them so, and PyTorch has channels first.
    """
    check_program(read_source_file(path), path)
    require_extra("litert_torch", "pytorch", "A PyTorch program")
    # Some releases fall back to pickle, which runs code, where a plain load fails.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # PyTorch raises all kinds
        raise invalid_model(f"{path} cannot be loaded as a PyTorch program: {first_line(error)}", error) from error
    inputs = _sample_inputs(program)
    return _convert(program, inputs)


def _sample_inputs(program: Any) -> tuple[Any, ...]:  # noqa: ANN401 - PyTorch is optional, so it has no types here
    """Return zeros in the shapes of the program's inputs, batch one. Raises `CompressionError`."""
    import torch

    names = program.graph_signature.user_inputs
    positional, named = program.call_spec.in_spec.children()
    if named.num_leaves or any(not child.is_leaf() for child in positional.children()):
        raise conversion_failed("The program takes named or nested inputs: export it with tensors one after the other.")
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    tensors: list[Any] = [nodes[name].meta["val"] if name in nodes else None for name in names]
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise conversion_failed("The program takes inputs that are no tensors: export it with tensors alone.")
    return tuple(
        torch.zeros(_closed_shape(name, tensor), dtype=tensor.dtype)
        for name, tensor in zip(names, tensors, strict=True)
    )


def _closed_shape(name: str, tensor: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    sizes = tuple(tensor.shape)
    if any(not isinstance(size, int) for size in sizes[1:]):
        shown = ", ".join(str(size) for size in sizes)
        raise conversion_failed(
            f"The model's input {name} has the open shape ({shown}): fix every size but the first when you export."
        )
    return sizes if not sizes or isinstance(sizes[0], int) else (1, *sizes[1:])


def _convert(program: Any, inputs: tuple[Any, ...]) -> bytes:  # noqa: ANN401 - as above
    import litert_torch

    images = [index for index, tensor in enumerate(inputs) if tensor.dim() == _IMAGE_RANK]
    module = litert_torch.to_channel_last_io(program.module(), args=images, outputs=_image_outputs(program))
    samples = tuple(tensor.permute(0, 2, 3, 1) if index in images else tensor for index, tensor in enumerate(inputs))
    try:
        with tempfile.TemporaryDirectory(prefix="harness-pytorch-") as folder:
            made = Path(folder) / "model.tflite"
            litert_torch.convert(module, samples).export(str(made))
            return made.read_bytes()
    except Exception as error:  # as above
        raise conversion_failed(f"litert-torch refused the program: {first_line(error)}", str(error)) from error


def _image_outputs(program: Any) -> list[int]:  # noqa: ANN401 - as above
    nodes = {node.name: node for node in program.graph.nodes}
    tensors = [nodes[name].meta["val"] for name in program.graph_signature.user_outputs if name in nodes]
    return [index for index, tensor in enumerate(tensors) if tensor.dim() == _IMAGE_RANK]
