"""ONNX files, turned into a float graph by onnx2tf of the extra `onnx`.

onnx2tf writes images channels-last, (1, height, width, channels), as delegates and calibration images want them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.compression.sources.reading import (
    conversion_failed,
    digest_of_files,
    first_line,
    invalid_model,
    read_source_file,
    require_bounded,
    require_extra,
)
from harness.tflite.library_types import OnnxModel

_SAMPLES_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""onnx2tf 1.28 compares its layers with ONNX Runtime's on the images in this file, and downloads it if it is not."""

_EVIDENCE_LINES = 40


def digest_onnx(path: Path) -> str:
    """Return the SHA-256 of the file, together with the files that it keeps its weights in. Raises `CompressionError`.

    Needs the extra only for a file whose weights are elsewhere.
    """
    content = read_source_file(path)
    if b"location" not in content:  # the key under which a file outside is named
        return hashlib.sha256(content).hexdigest()
    beside = _weight_files(_load(path), path)
    if not beside:
        return hashlib.sha256(content).hexdigest()
    return digest_of_files(path.parent, [path, *beside])


def convert_onnx(path: Path) -> bytes:
    """Return the float graph with a batch of one. Raises `CompressionError`."""
    require_extra("onnx2tf", "onnx", "An ONNX file")
    path = path.absolute()
    model = _load(path)
    require_bounded(sum(file.stat().st_size for file in [path, *_weight_files(model, path)]), path)
    _check_shapes(model)
    with tempfile.TemporaryDirectory(prefix="harness-onnx-") as folder:
        printed = _run_onnx2tf(path, Path(folder))
        made = sorted(Path(folder, "out").glob("*_float32.tflite"))
        if len(made) != 1:
            raise conversion_failed("onnx2tf ended without a float graph.", printed)
        return made[0].read_bytes()


def _load(path: Path) -> OnnxModel:
    """Return the model without the weights that are elsewhere."""
    require_extra("onnx", "onnx", "An ONNX file")
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds
        raise invalid_model(f"{path} is not a readable ONNX file: {first_line(error)}", error) from error
    if not model.graph.node:
        raise invalid_model(f"{path} is not an ONNX file: there is no graph in it.")
    return model


def _weight_files(model: OnnxModel, path: Path) -> list[Path]:
    """Return the files next to an ONNX file that hold its weights. Raises `CompressionError` for others."""
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    names = {ExternalDataInfo(tensor).location for tensor in _get_all_tensors(model) if uses_external_data(tensor)}
    files = [path.parent / name for name in sorted(names)]
    for file in files:
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise invalid_model(f"{path} keeps weights in {file}, outside of its own folder.")
        if not file.is_file():
            raise invalid_model(f"{path} keeps weights in {file}, which is missing: copy it too.")
    return files


def _check_shapes(model: OnnxModel) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    for entry in model.graph.input:
        if entry.name in weights:  # files of before 2019 list weights among the inputs
            continue
        sizes = [
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?"
            for axis in entry.type.tensor_type.shape.dim
        ]
        if any(not isinstance(size, int) or size < 1 for size in sizes[1:]):
            shown = ", ".join(str(size) for size in sizes)
            raise conversion_failed(
                f"The model's input {entry.name} has the open shape ({shown}): fix every size but the first, with "
                "`python -m onnxruntime.tools.make_dynamic_shape_fixed` or when you export."
            )


def _run_onnx2tf(path: Path, folder: Path) -> str:
    """Convert into `folder`/out and return what was printed. Raises `CompressionError`."""
    import numpy as np

    # Seeded noise in place of the download: no network, and the same graph every time.
    np.save(folder / _SAMPLES_FILE, np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32))
    printed = io.StringIO()
    try:
        with _tools_on_path(), contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            import onnx2tf

            onnx2tf.convert(input_onnx_file_path=str(path), output_folder_path="out", batch_size=1, non_verbose=True)
    except (Exception, SystemExit) as error:  # it raises all kinds, and leaves by sys.exit
        tail = "\n".join(printed.getvalue().splitlines()[-_EVIDENCE_LINES:])
        raise conversion_failed(
            f"onnx2tf refused the model: {type(error).__name__}: {first_line(error)}.", f"{error}\n{tail}"
        ) from error
    return printed.getvalue()


@contextlib.contextmanager
def _tools_on_path() -> Iterator[None]:
    """Put the scripts of this Python's packages on PATH, where onnx2tf looks for onnxsim."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), before))
    try:
        yield
    finally:
        os.environ["PATH"] = before
