"""Code that belongs to a model. It runs only if the command line said `--allow-code`.

The flag reaches the worker process as an environment variable, as the sweep between them has no business with it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.compression.sources.reading import first_line, invalid_model, read_source_file

_VARIABLE = "HARNESS_ALLOW_CODE"
_MODULE = "harness_custom_objects"
"""Not the file's own name, which may be that of a library."""


def allow_code() -> None:
    """Let this process, and those it starts, run code that belongs to a model."""
    os.environ[_VARIABLE] = "1"


def code_is_allowed() -> bool:
    """Return True if the command line said so."""
    return os.environ.get(_VARIABLE) == "1"


def load_custom_objects(path: Path) -> dict[str, Any]:
    """Run a Python file and return its own classes and functions by name, as Keras wants them.

    Raises `CompressionError` if code is not allowed, and for a file that cannot be read or run.
    """
    if not code_is_allowed():
        raise invalid_model(
            f"The model needs the code in {path}, and code runs only on request: read the file, and if you trust it, "
            "give --allow-code."
        )
    read_source_file(path)
    module = _run(path)
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == _MODULE
    }


def _run(path: Path) -> ModuleType:
    """Import the file once per process, as classes of a second import would be strangers to those of the first."""
    known = sys.modules.get(_MODULE)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise invalid_model(f"{path} is not a Python file: its name has to end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a stranger's code raises what it likes
        del sys.modules[_MODULE]
        raise invalid_model(f"{path} could not be run: {type(error).__name__}: {first_line(error)}", error) from error
    return module
