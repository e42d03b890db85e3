"""Models for the compression tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_graphs import dense_graph

from harness.spec.model import ModelSpec, find_model


@pytest.fixture
def graph_model(tmp_path: Path) -> Callable[..., ModelSpec]:
    """Write a dense graph to a file and return it as a model; the arguments are those of `dense_graph`."""

    def write(name: str = "dense", **options: object) -> ModelSpec:
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(dense_graph(**options))  # type: ignore[arg-type]
        return find_model(str(path))

    return write
