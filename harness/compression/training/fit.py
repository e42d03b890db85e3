"""Train a network within a step: seeded, watched, kept on disk epoch by epoch, resumed where it stopped."""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from harness.compression.training.kernels import Kernel, find_kernels
from harness.compression.training.learner import Learner, Lesson, gives_probabilities
from harness.compression.training.settings import TrainingSettings
from harness.compression.training.views import View, settle
from harness.datasets.training import LabelledImages, TrainingData, as_input, load_training_data
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import Augmentation, Preprocessing
from harness.tflite.library_types import KerasLogs, KerasModel

if TYPE_CHECKING:
    from harness.compression.recipe_state import RecipeState


MEMORY_UNIT_BYTES = 1024
"""`ru_maxrss` counts kilobytes on Linux."""
_IMAGE_AXES = 3
_SHOWN = 64
"""Images whose answers show whether a network ends in probabilities or in logits."""


@dataclass(frozen=True)
class Plan:
    """What is particular about one training."""

    doing: str
    """What the progress bar says, such as `fine-tuning after pruning`."""
    views: Mapping[str, Sequence[View]]
    """By the kernels' names; applied in order."""
    settle_with: Mapping[str, Sequence[View]]
    """What is written into the weights in the end: the views that must stay."""
    network: Any = None
    """What is really trained, where that is not the workpiece's own model but shares its layers."""
    callbacks: tuple[Any, ...] = ()
    lesson: Lesson | None = None


def train(work: RecipeState, settings: TrainingSettings, plan: Plan) -> None:
    """Train the workpiece's Keras model in place. Raises `CompressionError`.

    A training that was finished before is read from its folder; one that was interrupted goes on after its last epoch.
    """
    network = work.keras_model()
    kernels = find_kernels(network)
    _refuse_bad_weights(work, network)
    folder = work.step_folder()
    finished, facts_file = folder / "trained.weights.h5", folder / "training.json"
    if finished.is_file() and facts_file.is_file():
        network.load_weights(finished)
        work.report(**json.loads(facts_file.read_text(encoding="utf-8")), taken_from_cache=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = load_fitting_data(work, limit=settings.training_images)
    facts = _fit(work, settings, plan, kernels, data, folder)
    settle(kernels, plan.settle_with)
    _refuse_bad_weights(work, network)
    unfinished = folder / "unfinished.weights.h5"
    network.save_weights(unfinished)
    facts_file.write_text(json.dumps(facts), encoding="utf-8")
    unfinished.replace(finished)
    work.report(**facts)


def _fit(
    work: RecipeState,
    settings: TrainingSettings,
    plan: Plan,
    kernels: Sequence[Kernel],
    data: TrainingData,
    folder: Path,
) -> dict[str, Any]:
    assert work.model.training is not None  # noqa: S101 - the data was just loaded
    keras.utils.set_random_seed(settings.seed)
    batches = Batches(
        data.training,
        work.model.preprocessing,
        work.model.training.augmentation,
        batch=settings.batch,
        seed=settings.seed,
    )
    validation = as_input(data.validation.images, work.model.preprocessing), data.validation.labels
    lesson, shown = plan.lesson or _lesson(work, settings), validation[0][:_SHOWN]
    learner = Learner(
        plan.network or work.keras_model(),
        kernels,
        plan.views,
        lesson,
        from_logits=not gives_probabilities(work.keras_model(), shown),
        teacher_from_logits=lesson is not None and not gives_probabilities(lesson.teacher, shown),
    )
    learner(validation[0][:1])  # builds the variables, which a taken-up training fills
    steps = len(batches) * settings.epochs
    learner.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="top1")],
        jit_compile=False,
    )
    watcher = _Watcher(work, plan.doing, batches, settings.epochs)
    start = time.monotonic()
    history = learner.fit(
        batches,
        epochs=settings.epochs,
        validation_data=validation,
        validation_batch_size=1000,
        verbose=0,
        callbacks=[*_keepers(folder, settings), *plan.callbacks, watcher],
    )
    accuracy = learner.evaluate(*validation, batch_size=1000, verbose=0, return_dict=True)["top1"]
    return {
        "training": plan.doing,
        "training_data_sha256": data.sha256,
        "training_images": len(data.training),
        "epochs": len(history.epoch),
        "validation_images": len(data.validation),
        "validation_top1": round(float(accuracy), 5),
        "training_s": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MEMORY_UNIT_BYTES / 1e6),
        "logs": str(folder),
    }


def _keepers(folder: Path, settings: TrainingSettings) -> list[Any]:
    """Return the callbacks that keep what was learnt: a checkpoint an epoch, the logs, and early stopping."""
    keepers = [
        keras.callbacks.BackupAndRestore(str(folder / "checkpoint"), delete_checkpoint=True),
        keras.callbacks.CSVLogger(str(folder / "epochs.csv"), append=True),
    ]
    if find_spec("tensorboard"):  # the extra `tensorboard`; TensorFlow has stopped bringing it along
        keepers.append(keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False))
    if settings.patience:
        keepers.append(
            keras.callbacks.EarlyStopping("val_top1", mode="max", patience=settings.patience, restore_best_weights=True)
        )
    return keepers


class _Watcher(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Tells the progress, keeps the order of images right after a break, and ends a training that has gone wrong."""

    def __init__(self, work: RecipeState, doing: str, batches: Batches, epochs: int) -> None:
        super().__init__()
        self._work, self._doing, self._batches, self._epochs = work, doing, batches, epochs
        self._epoch = 0
        self._score = ""

    def on_epoch_begin(self, epoch: int, logs: KerasLogs = None) -> None:
        self._epoch = epoch
        self._batches.start_epoch(epoch)
        done = epoch * len(self._batches)
        if int(self.model.optimizer.iterations.numpy()) < done:  # a checkpoint holds weights alone
            self.model.optimizer.iterations.assign(done)

    def on_train_batch_end(self, batch: int, logs: KerasLogs = None) -> None:
        if logs is not None and not math.isfinite(logs.get("loss", 0.0)):
            raise CompressionError(
                Failure(
                    FailureClass.CONVERSION_FAILED,
                    f"Training became unstable in epoch {self._epoch + 1} (loss {logs['loss']}): "
                    "lower learning_rate in the recipe.",
                )
            )
        done = self._epoch * len(self._batches) + batch + 1
        doing = f"epoch {self._epoch + 1}/{self._epochs}{self._score}"
        self._work.progress(self._doing, self._epochs * len(self._batches), done, doing)

    def on_epoch_end(self, epoch: int, logs: KerasLogs = None) -> None:
        if logs:
            self._score = f", top-1 {100 * logs['val_top1']:.1f} %"


def _lesson(work: RecipeState, settings: TrainingSettings) -> Lesson | None:
    if not settings.teacher_share:
        return None
    return Lesson(work.float_model(), settings.teacher_share, settings.temperature)


def _refuse_bad_weights(work: RecipeState, network: KerasModel) -> None:
    for variable in network.variables:
        if not np.isfinite(variable.numpy()).all():
            message = f"{work.model.name}: the weight {variable.path} holds NaN or infinite values."
            raise CompressionError(Failure(FailureClass.INVALID_MODEL, message))


def load_fitting_data(work: RecipeState, *, limit: int | None) -> TrainingData:
    """Return the training data of a model that can learn from labelled images. Raises `CompressionError` otherwise."""
    network = work.keras_model()
    for tensors, what in ((network.inputs, "inputs"), (network.outputs, "outputs")):
        if len(tensors) > 1:
            raise _cannot_train(
                work,
                f"it has {len(tensors)} {what}, and training data hold one image and one class per sample. "
                "Choose a recipe without training",
            )
    assert work.model.training is not None  # noqa: S101 - a recipe that trains is refused without
    read = tuple(network.inputs[0].shape[1:])
    if work.model.training.augmentation != Augmentation() and len(read) != _IMAGE_AXES:
        raise _cannot_train(
            work,
            f"its input has the shape {read}, and augmentation moves and mirrors images. Leave augmentation out of "
            "[training]",
        )
    shape = tuple(network.outputs[0].shape[1:])
    if len(shape) != 1 or shape[0] == 1:
        raise _cannot_train(
            work,
            f"its output has the shape {shape} per sample, and learning from classes needs one score per class, at "
            "least two. Choose a recipe without training",
        )
    data = load_training_data(work.model, read, limit=limit)
    every = np.concatenate([data.training.labels, data.validation.labels])
    if every.min() < 0 or every.max() >= shape[0]:
        raise _cannot_train(
            work,
            f"it gives {shape[0]} scores, but its training labels go from {every.min()} to {every.max()}. Count the "
            "classes from 0, and end the model in one score per class",
        )
    return data


def _cannot_train(work: RecipeState, reason: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, f"Cannot train {work.model.name}: {reason}."))


class Batches(keras.utils.PyDataset):  # type: ignore[misc] # Keras has no types
    """One epoch of training data; every epoch has an order and changes of its own, given by seed and epoch alone."""

    def __init__(
        self, data: LabelledImages, preprocessing: Preprocessing, augmentation: Augmentation, *, batch: int, seed: int
    ) -> None:
        super().__init__()
        self._data, self._preprocessing, self._augmentation = data, preprocessing, augmentation
        self._batch, self._seed = batch, seed
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 0: a resumed training sees what an unbroken one would."""
        self._epoch = epoch
        self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._data))

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch (Keras calls this)."""
        self.start_epoch(self._epoch + 1)

    def __len__(self) -> int:
        return math.ceil(len(self._data) / self._batch)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        random = np.random.default_rng([self._seed, self._epoch, index])
        images = _augmented(self._data.images[chosen], self._augmentation, random)
        return as_input(images, self._preprocessing), self._data.labels[chosen]


def _augmented(images: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    shift = augmentation.shift_pixels
    if shift:
        height, width = images.shape[1:3]
        padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
        down, right = random.integers(0, 2 * shift + 1, 2)
        images = padded[:, down : down + height, right : right + width]
    if augmentation.mirror:
        mirrored = random.integers(0, 2, len(images)).astype(bool)
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return images
