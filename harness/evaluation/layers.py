"""Where a variant's error comes from: each layer's signal against its noise, from real tensors."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.output_check import signal_to_noise_db
from harness.datasets.labelled import Samples
from harness.errors import Failure, FailureClass, FailureError, UsageError
from harness.tflite.child import last_words, run_child, save_arrays
from harness.tflite.library_types import JsonValue
from harness.tflite.tensors import encode
from harness.tflite.variant import Variant, VariantCard

_TIMEOUT_S = 900


@dataclass(frozen=True)
class LayerError:
    """One tensor that both graphs write, in the order of execution."""

    name: str
    shape: tuple[int, ...]
    signal_to_noise_db: float
    """`10 log10(power of the float tensor / power of the difference)`; 120 if they agree to the last bit."""
    added_noise: float
    """Power of the noise over that of the signal, less the same of the layer before: what this layer adds.

    Never below 0: a layer can also average noise away.
    """


def layer_errors(variant: Variant, float_variant: Variant, samples: Samples) -> list[LayerError]:
    """Run both on the host and compare what they write under the same names. Raises `FailureError`.

    Compression changes graphs: what one of them has no tensor of that name and shape for is left out.
    """
    return compare_tensors(_tensors(variant, samples), _tensors(float_variant, samples))


def compare_tensors(
    found: Mapping[str, NDArray[np.float32]], reference: Mapping[str, NDArray[np.float32]]
) -> list[LayerError]:
    """Compare tensors by name, in the order of `reference`; the first axis is the sample."""
    errors: list[LayerError] = []
    before = 0.0
    for name, exact in reference.items():
        if name not in found or found[name].shape != exact.shape:
            continue
        ratio_db = signal_to_noise_db(found[name], exact)
        noise = 10 ** (-ratio_db / 10)
        errors.append(LayerError(name, exact.shape[1:], ratio_db, max(noise - before, 0.0)))
        before = noise
    return errors


def suggest_layers(errors: Sequence[LayerError], count: int) -> list[LayerError]:
    """Return the layers that add most noise, which are to be left in float first, the worst in front."""
    return sorted(errors, key=lambda error: -error.added_noise)[:count]


def mixed_recipe(card: VariantCard, layers: Sequence[LayerError], *, finer: bool = False) -> str:
    """Return the recipe file of a variant with these layers left in float, or in the next finer format.

    Raises `UsageError` for a variant that is not quantized after its training.
    """
    import tomli_w

    steps = [copy.deepcopy(step) for step in card.steps]
    quantization: Any = next((step for step in reversed(steps) if step["technique"] == "quantization"), None)
    if quantization is None:
        raise UsageError(
            f"{card.recipe} has no quantization step, so no layer of it can be left in float.",
            "Leave --mixed out, or name a recipe that quantizes, such as int8.",
        )
    formats = _finer(quantization["settings"]) if finer else {"weights": "float"}
    exceptions = [{"match": f"^{re.escape(layer.name)};?$", **formats} for layer in layers]
    quantization["settings"]["layers"] = [*quantization["settings"]["layers"], *exceptions]
    told = f"{card.recipe} with its {len(layers)} noisiest layers in {'a finer format' if finer else 'float'}"
    recipe = {"name": f"{card.recipe}-mixed", "summary": told, "target_runtime": card.target_runtime}
    return tomli_w.dumps({**recipe, "steps": _without_none(steps)})


def _finer(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the next finer format: int8 after fewer bits, one scale per channel after one per tensor, then float."""
    if settings["weights"] in ("int3", "int4"):
        return {"weights": "int8", "activations": settings["activations"]}
    if settings["weights"] == "int8" and settings["granularity"] == "tensor":
        return {"weights": "int8", "activations": settings["activations"], "granularity": "channel"}
    return {"weights": "float"}


def write_mixed_recipe(
    card: VariantCard, errors: Sequence[LayerError], count: int, folder: Path, *, finer: bool = False
) -> Path:
    """Write the recipe that leaves the `count` noisiest layers in float, or in a finer format. Raises `UsageError`."""
    recipe = mixed_recipe(card, suggest_layers(errors, count), finer=finer)
    path = folder / f"{card.recipe}-mixed.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Choose another folder: --output.") from error
    return path


def _without_none(value: JsonValue) -> JsonValue:
    """Leave out what is not set: TOML has no word for it."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


def _tensors(variant: Variant, samples: Samples) -> dict[str, NDArray[np.float32]]:
    inputs = [encode(array, tensor) for array, tensor in zip(samples.inputs, variant.card.inputs, strict=True)]
    with tempfile.TemporaryDirectory(prefix="harness-layers-") as folder:
        inputs_file, tensors_file = Path(folder, "inputs.npz"), Path(folder, "tensors.npz")
        save_arrays(inputs_file, inputs)
        done = run_child(
            "harness.tflite.inner_tensors",
            [variant.path, inputs_file, tensors_file],
            name=variant.name,
            timeout_s=_TIMEOUT_S,
        )
        if done.returncode != 0:
            message = f"The host's interpreter cannot run {variant.name}."
            raise FailureError(Failure(FailureClass.INVALID_MODEL, message, last_words(done)))
        with np.load(tensors_file) as archive:
            return {str(name): archive[str(index)] for index, name in enumerate(archive["names"])}
