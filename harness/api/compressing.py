"""Compress a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.tables import TableResult
from harness.progress import Progress, to_observer

if TYPE_CHECKING:
    import pandas as pd

    from harness.sweep.variants import FailedVariant
    from harness.tflite.variant import Variant


@dataclass(frozen=True)
class CompressedVariants(TableResult):
    """The variants of one model, and the recipes that failed."""

    model: str
    variants: tuple[Variant, ...]
    failures: tuple[FailedVariant, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per recipe: its file, sizes in bytes, operators, and why it failed."""
        import pandas as pd

        rows = [
            {
                "variant": variant.name,
                "size_bytes": variant.card.size_bytes,
                "gzip_size_bytes": variant.card.gzip_size_bytes,
                "operators": sum(variant.card.operators.values()),
                "path": str(variant.path),
                "failure": None,
                **_fidelity(variant),
            }
            for variant in self.variants
        ]
        rows += [{"variant": failed.recipe, "failure": failed.failure.message} for failed in self.failures]
        return pd.DataFrame(rows)

    def caption(self) -> str:
        """Name the model."""
        return f"Variants of {self.model}"


def _fidelity(variant: Variant) -> dict[str, object]:
    """Return how near a variant is to the float model, under the names of a sweep's columns."""
    fidelity = variant.card.fidelity
    if fidelity is None:
        return {}
    lost, worst = fidelity.failure(variant.name), fidelity.worst
    return {
        "failure": lost and lost.message,
        **{f"fidelity_{name}": getattr(worst, name) for name in ("snr_db", "cosine", "range_kept", "agreement")},
        "fidelity_inputs": fidelity.inputs or None,
    }


def compress(
    model: str = "fashion-dscnn",
    recipes: Sequence[str] | None = None,
    *,
    data: str | Path | None = None,
    pixels: tuple[float, float] | None = None,
    output: str | Path | None = None,
    max_drop_points: float | None = None,
    allow_code: bool = False,
    progress: Progress = None,
) -> CompressedVariants:
    """Build the variants of a model; unchanged variants come from the cache.

    `model` is a shipped model's name or a file that `harness compress` takes. `recipes` are built-in names or TOML
    files; by default the standard ones that the model's data allow. `data` is a `.npz` file or a folder of images in
    place of the model file's data, and `pixels` what its pixels 0 and 255 become, such as `(-1, 1)`.
    With `output`, copies and their cards are written
    to that folder. `max_drop_points` is how many percentage points of top-1 quantized variants may lose. `allow_code`
    runs the model's own code. Failed recipes are in `failures`. Raises `UsageError` for bad arguments.

    Example: `harness.compress("model.tflite", ["as-is"]).to_frame()`
    """
    from harness.accuracy.float_comparison import FloatComparer
    from harness.accuracy.reference import HostOutputs
    from harness.compression.make import copy_variant, make_variant
    from harness.compression.recipes import DEFAULT_RECIPES, find_recipe, usual_recipes, within_budget
    from harness.compression.sources.code import allow_code as allow
    from harness.errors import CompressionError
    from harness.files import make_folder
    from harness.paths import require_cache
    from harness.spec.model import find_model, with_data
    from harness.sweep.variants import FailedVariant, make_reference

    observer = to_observer(progress)
    if allow_code:
        allow()
    spec = with_data(find_model(model), None if data is None else str(data), pixels)
    if recipes is None:
        chosen, note = usual_recipes(DEFAULT_RECIPES, spec)
        if note:
            observer.note(note)
    else:
        chosen = [find_recipe(name) for name in recipes]
    if max_drop_points is not None:
        chosen = [within_budget(recipe, max_drop_points) for recipe in chosen]
    folder = Path(output) if output is not None else None
    if folder is not None:
        make_folder(folder)
    variants: list[Variant] = []
    failures: list[FailedVariant] = []
    cache = require_cache()
    comparer: FloatComparer | None = None
    for recipe in chosen:
        try:
            variant = make_variant(spec, recipe, cache=cache, observer=observer)
        except CompressionError as error:
            failures.append(FailedVariant(recipe.name, error.failure))
        else:
            comparer = comparer or FloatComparer(
                spec,
                make_reference(spec, cache=cache, observer=observer),
                HostOutputs(cache / "reference"),
                observer=observer,
            )
            variant = comparer.compared(variant)
            variants.append(copy_variant(variant, folder, f"{spec.name}-{recipe.name}") if folder else variant)
    return CompressedVariants(spec.name, tuple(variants), tuple(failures))
