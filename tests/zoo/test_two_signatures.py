"""A file with two signatures, as encoders and decoders are shipped together: each still answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workbench
from test_zoo import LEAST_DB
from workbench import Subject, run_on_host, signal_to_noise_db

from harness.spec.model import find_model

pytestmark = pytest.mark.slow

RECIPES = {**LEAST_DB, "int8": 20.0, "int8-io": 20.0, "int8-tensor": 20.0, "int4": 10.0}
"""By recipe, the least signal-to-noise ratio of an output."""

SAMPLES = 5
"""Each costs a process of the tool."""

Parts = tuple[Subject, dict[str, tuple[list[Any], list[Any]]]]
"""A file, and by signature its inputs and the right outputs."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Return the file as a subject, and by signature its inputs and what TensorFlow computes."""
    import tensorflow as tf

    random = np.random.default_rng(4)

    def weights(*shape: int) -> Any:
        return tf.Variable(random.normal(size=shape).astype(np.float32))

    module = tf.Module()
    module.kernel, module.dense, module.back, module.bias = (
        weights(3, 3, 3, 8),
        weights(8, 6),
        weights(6, 12),
        weights(12),
    )

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32, "image")])
    def encode(image: Any) -> dict[str, Any]:
        features = tf.nn.relu(tf.nn.conv2d(image, module.kernel, 2, "SAME"))
        return {"code": tf.matmul(tf.reduce_mean(features, [1, 2]), module.dense)}

    @tf.function(input_signature=[tf.TensorSpec((1, 6), tf.float32, "code"), tf.TensorSpec((1, 1), tf.float32, "gain")])
    def decode(code: Any, gain: Any) -> dict[str, Any]:
        return {"rows": gain * tf.nn.tanh(tf.matmul(code, module.back) * 0.3 + module.bias)}

    module.encode, module.decode = encode, decode
    folder = tmp_path_factory.mktemp("two")
    tf.saved_model.save(module, folder / "saved", signatures={"encode": encode, "decode": decode})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"), signature_keys=["encode", "decode"])
    graph = bytes(converter.convert())
    (folder / "two.tflite").write_bytes(graph)

    def samples(count: int) -> tuple[Any, Any, Any]:
        images = random.uniform(0, 1, (count, 8, 8, 3)) * random.uniform(0, 1, (count, 1, 1, 3))
        shapes = (images, random.normal(size=(count, 6)), random.uniform(0.5, 1.5, (count, 1)))
        return tuple(array.astype(np.float32) for array in shapes)  # type: ignore[return-value]

    images, codes, gains = samples(workbench.CALIBRATION_SAMPLES)
    np.savez(folder / "data.npz", calibration_images=images, calibration_code=codes, calibration_gain=gains)
    spec = folder / "two.toml"
    spec.write_text('name = "two"\n[source]\nkind = "tflite"\npath = "two.tflite"\n[data]\npath = "data.npz"\n')
    images, codes, gains = samples(workbench.TEST_SAMPLES)
    encoded = np.concatenate([encode(image[None])["code"] for image in images])
    pairs = zip(codes, gains, strict=True)
    decoded = np.concatenate([decode(code[None], gain[None])["rows"] for code, gain in pairs])
    subject = Subject("two", None, graph, find_model(str(spec)), [], [], [], folder, lambda: None)
    return subject, {"encode": ([images], [encoded]), "decode": ([codes, gains], [decoded])}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_each_signature_answers_as_in_tensorflow(parts: Parts, recipe: str) -> None:
    subject, signatures = parts
    content = subject.make(recipe)
    for key, (inputs, answers) in signatures.items():
        found = run_on_host(content, inputs, key)
        for wanted, output in zip(answers, found, strict=True):
            assert signal_to_noise_db(wanted, output) >= RECIPES[recipe], key


@pytest.mark.official_tool
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "dynamic-int8", "int8", "int16x8"])
def test_2_14_loads_a_file_with_two_signatures(parts: Parts, recipe: str, official_tools: Path, tmp_path: Path) -> None:
    """The tool runs the main graph alone: the converter orders signatures by name."""
    subject, signatures = parts
    inputs, answers = ([array[:SAMPLES] for array in arrays] for arrays in signatures["decode"])
    found = workbench.run_in_2_14(official_tools, subject.make(recipe), inputs, tmp_path, signature="decode")
    for wanted, output in zip(answers, found, strict=True):
        assert signal_to_noise_db(wanted, output) >= RECIPES[recipe]
