"""Folders of images: every orientation, every kind of file, classes by number, and bad files by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.datasets.arrays import ArraysUnreadableError
from harness.datasets.images import SUFFIXES, find_images
from harness.datasets.labelled import choose_samples, data_notes, fit_dataset, load_dataset
from harness.errors import UsageError
from harness.spec.model import Data, ModelSpec, Preprocessing, TfliteFile
from harness.tflite.flatbuffer import GraphFacts
from harness.tflite.variant import TensorType

RANDOM = np.random.default_rng(5)
EXIF_ORIENTATION = 0x0112


def smooth(height: int = 12, width: int = 20) -> Any:
    """Return a colour picture whose four quarters differ, and that survives JPEG."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    pixels[: height // 2, : width // 2] = (250, 60, 40)
    pixels[: height // 2, width // 2 :] = (60, 240, 90)
    pixels[height // 2 :, : width // 2] = (40, 70, 230)
    return pixels


def write(path: Path, image: Image.Image, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **settings)
    return path


UPRIGHT = {  # how the stored picture has to be turned, by the EXIF standard
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    stored = smooth()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    settings = {"exif": exif} | ({"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0})
    write(tmp_path / "a" / f"photo.{suffix}", Image.fromarray(stored), **settings)
    expected = UPRIGHT[orientation](stored)
    found = find_images(tmp_path).pixels(expected.shape)[0]
    assert np.abs(found.astype(int) - expected).max() <= (8 if suffix == "jpg" else 0)


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    stored = smooth()
    for suffix in sorted(SUFFIXES):
        write(tmp_path / "a" / f"photo{suffix.upper()}", Image.fromarray(stored))
    found = find_images(tmp_path)
    assert len(found) == len(SUFFIXES)
    assert not found.notes
    assert np.abs(found.pixels((12, 20, 3)).astype(int) - stored).mean(axis=(1, 2, 3)).max() < 15  # JPEG blurs colours


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_become_what_the_model_takes(mode: str, suffix: str, channels: int, tmp_path: Path) -> None:
    if (suffix == "bmp" and mode in ("LA", "RGBA")) or (mode == "LA" and suffix == "tif"):
        pytest.skip("no such file")
    image = Image.fromarray(smooth()).convert(mode)
    write(tmp_path / f"photo.{suffix}", image)
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(12, 20, channels)
    assert (find_images(tmp_path).pixels((12, 20, channels))[0] == expected).all()


def test_sixteen_bits_keep_their_upper_half(tmp_path: Path) -> None:
    deep = RANDOM.integers(0, 65536, (6, 6)).astype(np.uint16)
    write(tmp_path / "deep.png", Image.fromarray(deep))
    found = find_images(tmp_path)
    assert (found.pixels((6, 6, 1))[0, ..., 0] == deep >> 8).all()
    assert (found.pixels((6, 6, 3))[0] == (deep >> 8)[..., None]).all()


@pytest.mark.parametrize("size", [(5, 9), (12, 20), (40, 33)])
def test_sizes_change_as_keras_changes_them(size: tuple[int, int], tmp_path: Path) -> None:
    import keras

    noise = RANDOM.integers(0, 256, (12, 20, 3)).astype(np.uint8)
    for name in ("a", "b"):
        write(tmp_path / name / "photo.png", Image.fromarray(noise))
    pairs = keras.utils.image_dataset_from_directory(tmp_path, image_size=size, batch_size=None, verbose=False)
    expected = next(iter(pairs))[0].numpy().round()
    assert np.abs(find_images(tmp_path).pixels((*size, 3))[0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("names", "order", "says"),
    [
        (["cat", "dog"], ["cat", "dog"], []),
        ([str(place) for place in range(12)], [str(place) for place in range(12)], ["not of the alphabet"]),
        (["class_2", "class_10", "class_1"], ["class_1", "class_2", "class_10"], ["alphabet", "class_1 is class 0"]),
        (["00", "01", "10"], ["00", "01", "10"], ["00 is class 0"]),
        (["1", "2"], ["1", "2"], ["the folder 1 is class 0"]),
        (["10x", "9x"], ["10x", "9x"], []),
        (["a2", "b10"], ["a2", "b10"], []),
    ],
)
def test_numbered_classes_count_by_number(names: list[str], order: list[str], says: list[str], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / name / "photo.png", Image.fromarray(smooth()))
    found = find_images(tmp_path)
    assert [file.parent.name for file in found.files] == order
    assert list(found.labels) == list(range(len(names)))
    assert len(found.notes) == len(says)
    for note, words in zip(found.notes, says, strict=True):
        assert words in note


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "cat" / "1.png", Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3)).astype(np.uint8)))
    cut = tmp_path / "cat" / "2.png"
    cut.write_bytes(whole.read_bytes()[:900])
    with pytest.raises(ArraysUnreadableError, match=r"holds cat/2\.png, which cannot be read as an image"):
        find_images(tmp_path).pixels((8, 8, 3))
    cut.write_text("no image")
    with pytest.raises(ArraysUnreadableError, match=r"holds cat/2\.png"):
        find_images(tmp_path).pixels((8, 8, 3))


def test_files_that_are_left_out_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "1.png", Image.fromarray(smooth()))
    for name in ("cat/a.heic", "cat/b.HEIC", "cat/readme.txt", "loose.jpg", "cat/.DS_Store"):
        (tmp_path / name).write_text("x")
    note = find_images(tmp_path).notes[0]
    assert "4 files left out (2 .heic, 1 .jpg, 1 .txt)" in note


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArraysUnreadableError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(ArraysUnreadableError, match="cannot be read"):
        find_images(tmp_path / "missing")
    (tmp_path / "cat").mkdir()
    write(tmp_path / "dog" / "1.png", Image.fromarray(smooth()))
    with pytest.raises(ArraysUnreadableError, match="no image of the class cat"):
        find_images(tmp_path)


def test_the_identity_follows_the_files(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        write(tmp_path / name, Image.fromarray(smooth()))
    before = find_images(tmp_path).sha256
    assert before == find_images(tmp_path).sha256
    write(tmp_path / "2.png", Image.fromarray(smooth()[::-1].copy()))
    assert before != find_images(tmp_path).sha256


# -- as a model's data --


def folder_model(folder: Path, **source: Any) -> ModelSpec:
    return ModelSpec(
        name="m",
        source=TfliteFile(kind="tflite", path=Path("m.tflite")),
        data=Data(path=folder),
        preprocessing=Preprocessing(scale=1 / 255),
        **source,
    )


def graph_taking(*shape: int) -> GraphFacts:
    inputs, outputs = (
        TensorType(name=name, shape=size, type="float32") for name, size in (("x", shape), ("y", (1, 3)))
    )
    return GraphFacts({}, {}, (), {}, (inputs,), (outputs,))


def test_a_folder_gives_labels_and_other_images_for_calibration(tmp_path: Path) -> None:
    for label, name in enumerate(("cat", "dog", "emu")):
        for place in range(8):
            value = 80 * label + place
            write(tmp_path / name / f"{place}.png", Image.fromarray(np.full((9, 7, 3), value, np.uint8)))
    model = folder_model(tmp_path)
    dataset = load_dataset(model)
    assert dataset is not None
    samples = choose_samples(fit_dataset(dataset, model, graph_taking(1, 4, 5, 3)), 100)
    assert samples.labels is not None
    pixels = (samples.inputs[0] * 255).round().astype(int)
    assert pixels.shape == (18, 4, 5, 3)
    assert (pixels[:, 0, 0, 0] // 80 == samples.labels).all()
    calibration = find_images(tmp_path).for_calibration
    assert sorted(calibration.labels) == [0, 0, 1, 1, 2, 2]
    assert not set(calibration.pixels((1, 1, 1)).ravel().tolist()) & set(pixels.ravel().tolist())
    assert calibration.spread(3).labels == (0, 1, 2)
    with pytest.raises(UsageError, match=r"its data are image files, but the model takes \(60,\) per sample"):
        fit_dataset(dataset, model, graph_taking(1, 60))
    (tmp_path / "dog" / "3.png").write_text("broken")
    with pytest.raises(UsageError, match=r"holds dog/3\.png, which cannot be read"):
        choose_samples(fit_dataset(dataset, model, graph_taking(1, 4, 5, 3)), 100)


def test_data_without_labels_say_so(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "1.png", Image.fromarray(smooth()))
    (tmp_path / "photos" / "notes.txt").write_text("x")
    np.savez(tmp_path / "calibration.npz", calibration_images=np.zeros((3, 4, 4), np.uint8))
    for name in ("photos", "calibration.npz"):
        model = folder_model(tmp_path / name)
        assert load_dataset(model) is None
        assert "has no labels" in data_notes(model, None)[0]
