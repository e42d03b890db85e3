"""PyTorch programs, `.pt2` files of `torch.export.save`, turned into a float graph by litert-torch of `pytorch`."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.compression.sources.reading import (
    conversion_failed,
    first_line,
    invalid_model,
    read_source_file,
    require_bounded_zip,
    require_extra,
)
from harness.tflite.library_types import JsonValue, TorchProgram

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


def _sample_inputs(program: TorchProgram) -> tuple[TorchProgram, ...]:
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


def _closed_shape(name: str, tensor: TorchProgram) -> tuple[int, ...]:
    sizes = tuple(tensor.shape)
    if any(not isinstance(size, int) for size in sizes[1:]):
        shown = ", ".join(str(size) for size in sizes)
        raise conversion_failed(
            f"The model's input {name} has the open shape ({shown}): fix every size but the first when you export."
        )
    return sizes if not sizes or isinstance(sizes[0], int) else (1, *sizes[1:])


def _convert(program: TorchProgram, inputs: tuple[TorchProgram, ...]) -> bytes:
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


def _image_outputs(program: TorchProgram) -> list[int]:
    nodes = {node.name: node for node in program.graph.nodes}
    tensors = [nodes[name].meta["val"] for name in program.graph_signature.user_outputs if name in nodes]
    return [index for index, tensor in enumerate(tensors) if tensor.dim() == _IMAGE_RANK]


HOW_TO_EXPORT = (
    "Export the network and save the program: torch.export.save(torch.export.export(network.eval(), "
    "(torch.rand(1, 3, 224, 224),)), 'model.pt2')."
)

_PROGRAM = "models/model.json"
_ENTRY = re.compile(
    r"\.data/(version|serialization_id)|archive_format|archive_version|version|byteorder|models/model\.json"
    r"|data/(weights|constants)/[\w.]+|data/sample_inputs/model\.pt|\.format_version|\.storage_alignment"
)
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+\.\w+|_operator\.(getitem|add|sub|mul|floordiv|neg)"
)
_SHAPE = re.compile(
    r"(Symbol\('\w+'(, \w+=(True|False))*\)|Integer\(-?\d+\)|Mul|Add|Pow|FloorDiv|Mod|Max|Min|[su]\d+|\d+|[-+*/(), ])+"
)


def check_program(content: bytes, path: Path) -> None:
    """Raise `CompressionError` (invalid_model) for whatever is no exported program, or could run code."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            require_bounded_zip(archive, path)
            program = json.loads(archive.read(_find_program(archive.namelist(), path)))
    except zipfile.BadZipFile as error:
        if content[:1] == b"\x80":  # what every pickle of protocol 2 and later begins with
            raise _pickle(path) from error
        raise invalid_model(f"{path} is not a PyTorch program: {first_line(error)}. {HOW_TO_EXPORT}", error) from error
    except (ValueError, EOFError, zipfile.LargeZipFile) as error:
        raise invalid_model(f"{path} is corrupt: {first_line(error)}.", error) from error
    for key, value in _texts(program):
        _check_text(key, value, path)
    if not isinstance(program, dict) or program.get("guards_code"):
        raise invalid_model(f"{path} brings code that checks its inputs, which is not run. {HOW_TO_EXPORT}")


def _find_program(names: list[str], path: Path) -> str:
    """Return the name of the one program among an archive's entries, which lie in one folder."""
    folders, entries = {name.partition("/")[0] for name in names}, [name.partition("/")[2] for name in names]
    if "data.pkl" in entries:
        raise _pickle(path)
    strange = [entry for entry in entries if not _ENTRY.fullmatch(entry)]
    if strange or len(folders) != 1 or entries.count(_PROGRAM) != 1 or len(set(names)) != len(names):
        found = f"an entry {strange[0]!r}" if strange else "other than one program"
        raise invalid_model(f"{path} holds {found}; a plain program alone is taken. {HOW_TO_EXPORT}")
    return f"{folders.pop()}/{_PROGRAM}"


def _check_text(key: str, value: str, path: Path) -> None:
    if key in ("target", "as_operator") and not _OPERATOR.fullmatch(value):
        raise invalid_model(f"{path} calls {value!r}, which is none of the operators that are taken.")
    if key == "expr_str" and not _SHAPE.fullmatch(value):
        raise invalid_model(f"{path} has the shape {value!r}, which is not plain arithmetic.")


def _texts(node: JsonValue) -> Iterator[tuple[str, str]]:
    """Yield every text that stands under a key, with that key."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            for key, value in here.items():
                if isinstance(value, str):
                    yield key, value
                else:
                    waiting.append(value)
        elif isinstance(here, list):
            waiting.extend(here)


def _pickle(path: Path) -> Exception:
    return invalid_model(
        f"{path} is a pickle of torch.save or TorchScript, which runs code when it is loaded, so it is not opened. "
        f"{HOW_TO_EXPORT}"
    )
