"""TensorFlow Lite's sparse tensors: only the values that are not zero, and where they stand. Pure NumPy.

A tensor is walked axis by axis in some order. Each axis is one level: a dense level visits every index, a sparse level
(compressed sparse row) only those below which a value stands. Axes may be cut into blocks first; the places inside a
block are further, dense levels at the end. The format is that of TACO (Kjolstad et al., "The Tensor Algebra Compiler",
OOPSLA 2017), as TensorFlow Lite's schema has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZES = (1, 2, 4, 8, 16)
INDEX_TYPES = (np.uint8, np.uint16, np.int32)
"""The types that the schema has for segments and indices."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SparseLayout:
    """How a tensor of some rank is walked."""

    order: tuple[int, ...]
    """The axes, outermost level first."""

    sparse: tuple[bool, ...]
    """True if each level, in that order, is sparse."""

    block: tuple[int, ...]
    """The size of a block along each axis; 1 if it is not cut."""

    @property
    def block_axes(self) -> tuple[int, ...]:
        """The axes that are cut into blocks, ascending, which is the one order that runtimes read rightly."""
        return tuple(axis for axis, size in enumerate(self.block) if size > 1)

    def __str__(self) -> str:
        levels = ", ".join(
            f"{axis}{'*' if sparse else ''}" for axis, sparse in zip(self.order, self.sparse, strict=True)
        )
        blocks = "x".join(map(str, self.block))
        return f"axes {levels}" + (f" in blocks of {blocks}" if self.block_axes else "") + " (* sparse)"


@dataclass(frozen=True)
class Level:
    """One axis as it is stored: `size` alone when it is dense."""

    size: int
    segments: NDArray[Any] | None = None
    """Where each parent's children begin in `indices`, and after the last one, where they end."""

    indices: NDArray[Any] | None = None


@dataclass(frozen=True)
class SparseValues:
    """A tensor in the sparse format."""

    layout: SparseLayout
    levels: tuple[Level, ...]
    """The axes in the layout's order, then the insides of the blocks."""

    values: NDArray[Any]

    @property
    def bytes(self) -> int:
        """Of the values and their places."""
        places = (array for level in self.levels for array in (level.segments, level.indices) if array is not None)
        return int(self.values.nbytes) + sum(int(array.nbytes) for array in places)


def encode(values: NDArray[Any], layout: SparseLayout) -> SparseValues:
    """Store a tensor in a layout. Zeros of either sign are left out, unless a dense level has to keep them."""
    grid = _grid(values.shape, layout.block)
    nodes, kept = (_in_walking_order(array, layout).reshape(1, -1) for array in (values, _kept(values)))
    levels = []
    for axis, sparse in zip(layout.order, layout.sparse, strict=True):
        # [nodes of the level above, their children, all that is below a child]
        shape = (len(nodes), grid[axis], -1)
        filled = np.asarray(kept.reshape(shape).any(axis=2)) if sparse else np.ones(shape[:2], np.bool_)
        nodes, kept = nodes.reshape(shape)[filled], kept.reshape(shape)[filled]
        levels.append(_sparse_level(filled) if sparse else Level(grid[axis]))
    levels += [Level(layout.block[axis]) for axis in layout.block_axes]
    return SparseValues(layout, tuple(levels), nodes.reshape(-1))


def _in_walking_order(values: NDArray[Any], layout: SparseLayout) -> NDArray[Any]:
    """Return the values with one axis a level: those of the blocks as the layout walks them, then their insides."""
    outer = [2 * axis for axis in layout.order]
    inner = [2 * axis + 1 for axis in range(values.ndim)]
    return _cut(values, layout.block).transpose(outer + inner)


def _sparse_level(filled: Mask) -> Level:
    """Return the level whose nodes (rows) have these children (columns)."""
    segments = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
    return Level(filled.shape[1], _narrow(segments), _narrow(np.nonzero(filled)[1]))


def smallest(values: NDArray[Any]) -> SparseValues:
    """Store a tensor in the layout that needs the fewest bytes, of all orders, sparse levels and blocks."""
    kept = _kept(values)
    layouts = (
        (size, layout) for block in _blocks(values.shape) for size, layout in _sizes(kept, block, values.itemsize)
    )
    _, best = min(layouts, key=lambda pair: pair[0])
    return encode(values, best)


def _kept(values: NDArray[Any]) -> Mask:
    """Return which values are stored: all but the zeros, and at least one, since an empty constant is none."""
    kept = np.asarray(values != 0)
    if not kept.any():
        kept.flat[0] = True
    return kept


def _grid(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of blocks along each axis."""
    return tuple(size // part for size, part in zip(shape, block, strict=True))


def _cut(values: NDArray[Any], block: tuple[int, ...]) -> NDArray[Any]:
    """Return the values with two axes for each of theirs: which block, and where in it."""
    pairs = zip(_grid(values.shape, block), block, strict=True)
    return values.reshape([size for pair in pairs for size in pair])


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return product(*([part for part in BLOCK_SIZES if size % part == 0] for size in shape))


def _sizes(kept: Mask, block: tuple[int, ...], itemsize: int) -> Iterator[tuple[int, SparseLayout]]:
    """Yield each layout with one block and its size in bytes, counted without storing anything.

    What a level holds depends only on which axes come before it: below how many of their places a value stands.
    """
    grid = _grid(kept.shape, block)
    blocks = np.asarray(_cut(kept, block).any(axis=tuple(range(1, 2 * kept.ndim, 2))))
    real = [axis for axis, size in enumerate(grid) if size > 1]
    flat = tuple(axis for axis, size in enumerate(grid) if size == 1)
    filled = {
        frozenset(before): int(blocks.any(axis=tuple(set(range(len(grid))) - set(before))).sum())
        for count in range(len(real) + 1)
        for before in combinations(real, count)
    }
    for order, sparse in _walks(tuple(real)):
        size, nodes = 0, 1
        for level, (axis, is_sparse) in enumerate(zip(order, sparse, strict=True)):
            if not is_sparse:
                nodes *= grid[axis]
                continue
            children = filled[frozenset(order[: level + 1])]
            size += (nodes + 1) * _index_bytes(children) + children * _index_bytes(grid[axis] - 1)
            nodes = children
        size += nodes * math.prod(block) * itemsize
        yield size, SparseLayout(flat + order, (False,) * len(flat) + sparse, block)


@cache
def _walks(axes: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[bool, ...]], ...]:
    """Return all orders of the axes, each with all choices of sparse levels."""
    return tuple(product(permutations(axes), product((False, True), repeat=len(axes))))


def _index_bytes(largest: int) -> int:
    return np.dtype(_index_type(largest)).itemsize


def _index_type(largest: int) -> type[np.integer[Any]]:
    return next(candidate for candidate in INDEX_TYPES if largest <= np.iinfo(candidate).max)


def _narrow(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.astype(_index_type(int(numbers.max(initial=0))))
