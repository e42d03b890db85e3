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
class Layout:
    """How a tensor of some rank is walked."""

    order: tuple[int, ...]
    """The axes, outermost level first."""

    sparse: tuple[bool, ...]
    """Whether each level, in that order, is sparse."""

    block: tuple[int, ...]
    """The size of a block along each axis; 1 where it is not cut."""

    @property
    def block_axes(self) -> tuple[int, ...]:
        """The axes that are cut into blocks, ascending, which is the one order that runtimes read rightly."""
        return tuple(axis for axis, size in enumerate(self.block) if size > 1)

    def __str__(self) -> str:
        levels = ", ".join(f"{axis}{'*' if sparse else ''}" for axis, sparse in zip(self.order, self.sparse, strict=True))
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

    layout: Layout
    levels: tuple[Level, ...]
    """The axes in the layout's order, then the insides of the blocks."""

    values: NDArray[Any]


def encode(values: NDArray[Any], layout: Layout) -> SparseValues:
    """Store a tensor in a layout. Zeros of either sign are left out, unless a dense level has to keep them."""
    kept = _kept(values)
    grid, inside = _grid(values.shape, layout.block)
    # [every outer axis in walking order, then the inside of the blocks, whose order is ascending]
    axes = [2 * axis for axis in layout.order] + [2 * axis + 1 for axis in layout.block_axes]
    axes += [axis for axis in range(2 * values.ndim) if axis not in axes]  # of size 1
    shape = [size for pair in zip(grid, layout.block, strict=True) for size in pair]
    nodes = values.reshape(shape).transpose(axes).reshape(1, -1)
    mask = kept.reshape(shape).transpose(axes).reshape(1, -1)
    levels = []
    for axis, sparse in zip(layout.order, layout.sparse, strict=True):
        size = grid[axis]
        nodes, mask = (array.reshape(len(array), size, -1) for array in (nodes, mask))
        if not sparse:
            levels.append(Level(size))
            nodes, mask = (array.reshape(-1, array.shape[2]) for array in (nodes, mask))
            continue
        filled = mask.any(axis=2)
        segments = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
        levels.append(Level(size, _narrow(segments), _narrow(np.nonzero(filled)[1])))
        nodes, mask = nodes[filled], mask[filled]
    levels += [Level(size) for size in inside]
    return SparseValues(layout, tuple(levels), nodes.reshape(-1))


def smallest(values: NDArray[Any]) -> SparseValues:
    """Store a tensor in the layout that needs the fewest bytes, of all orders, sparse levels and blocks."""
    layouts = (
        (size, layout)
        for block in _blocks(values.shape)
        for size, layout in _sizes(values.shape, _kept(values), block, values.itemsize)
    )
    _, best = min(layouts, key=lambda pair: pair[0])
    return encode(values, best)


def _kept(values: NDArray[Any]) -> Mask:
    """Return which values are stored: all but the zeros, and at least one, since an empty constant is none."""
    kept = values != 0
    if not kept.any():
        kept.flat[0] = True
    return kept


def _grid(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the number of blocks along each axis, and the sizes of those axes of a block that are cut."""
    return tuple(size // part for size, part in zip(shape, block, strict=True)), tuple(b for b in block if b > 1)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return product(*([part for part in BLOCK_SIZES if size % part == 0] for size in shape))


def _sizes(shape: tuple[int, ...], kept: Mask, block: tuple[int, ...], itemsize: int) -> Iterator[tuple[int, Layout]]:
    """Yield each layout with one block and its size in bytes, counted without storing anything.

    What a level holds depends only on which axes come before it: below how many of their places a value stands.
    """
    grid, _ = _grid(shape, block)
    cut = kept.reshape([size for pair in zip(grid, block, strict=True) for size in pair])
    blocks: Mask = cut.any(axis=tuple(range(1, 2 * len(shape), 2)))
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
        yield size, Layout(flat + order, (False,) * len(flat) + sparse, block)


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
