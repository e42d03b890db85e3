"""NumPy files of all kinds, and what is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.arrays import ArraysUnreadableError, read_arrays

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_all_arrays_or_those_that_are_named(tmp_path):
    np.savez(tmp_path / "two.npz", images=IMAGES, labels=IMAGES[0])
    assert sorted(read_arrays(tmp_path / "two.npz")) == ["images", "labels"]
    (images,) = read_arrays(tmp_path / "two.npz", ["images"]).values()
    assert np.array_equal(images, IMAGES)
    np.save(tmp_path / "one.npy", IMAGES)
    assert np.array_equal(read_arrays(tmp_path / "one.npy")["0"], IMAGES)


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("missing.npz", lambda file: None, "cannot be read (No such file or directory)"),
        ("folder.npz", lambda file: file.mkdir(), "cannot be read (Is a directory)"),
        ("text.npy", lambda file: file.write_text("a text"), "is no NumPy file, or is damaged"),
        ("empty.npz", lambda file: file.touch(), "is no NumPy file, or is damaged"),
        (
            "objects.npy",
            lambda file: np.save(file, np.array([{}]), allow_pickle=True),
            "holds Python objects, which are never loaded",
        ),
        (
            "objects.npz",
            lambda file: np.savez(file, images=np.array([{}])),
            "holds Python objects, which are never loaded",
        ),
        ("other.npz", lambda file: np.savez(file, pixels=IMAGES), "has no array images, labels"),
        ("single.npy", lambda file: np.save(file, IMAGES), "has no array images, labels"),
    ],
)
def test_what_gives_no_arrays_says_why(tmp_path, name, write, told):
    write(tmp_path / name)
    with pytest.raises(ArraysUnreadableError) as caught:
        read_arrays(tmp_path / name, ["images", "labels"])
    assert str(caught.value) == told


@pytest.fixture(scope="module", params=["savez", "savez_compressed", "save"])
def whole(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("whole") / ("whole.npy" if request.param == "save" else "whole.npz")
    getattr(np, request.param)(file, IMAGES)
    return file


@given(st.data())
def test_a_damaged_file_gives_arrays_or_says_that_it_is_damaged(whole, data):
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = whole.with_name(f"damaged{whole.suffix}")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read_arrays(damaged)
    except ArraysUnreadableError as error:
        assert str(error)
