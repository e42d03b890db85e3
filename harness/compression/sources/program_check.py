"""Tell from a `.pt2` file's bytes that it is a program of tensor operators and nothing else, before PyTorch loads it.

PyTorch trusts such files: it looks operators up by any dotted name below `torch`, evaluates shape expressions as
Python, runs guards that come as source code and loads compiled libraries. Only the plain case is let through.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.compression.sources.reading import first_line, invalid_model

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


def _texts(node: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
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
