"""What an evaluation found, as one HTML file. Nothing from a model reaches it unescaped, and nothing leaves it."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from harness.evaluation.suite import HOST
from harness.report.html.page import asset, render_template
from harness.report.terminal.evaluation import (
    attack_tables,
    comparison_table,
    condition_tables,
    delegate_table,
    notes_on_data,
    place_name,
    sentences,
    short_layer_name,
)
from harness.text import printable

if TYPE_CHECKING:
    from harness.evaluation.layers import LayerError
    from harness.evaluation.occlusion import FlippedInput
    from harness.evaluation.run import EvaluationResult


_ROW_HEIGHT_PX = 18


@dataclass(frozen=True)
class TableOnPage:
    """A table of the terminal, as a page shows it."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: str = ""


@dataclass(frozen=True)
class SaliencyOnPage:
    """One image with the maps of both models; addresses are data URIs."""

    words: str
    image: str
    float_words: str
    float_map: str
    variant_words: str
    variant_map: str
    legend: str


def render_evaluation(found: EvaluationResult) -> str:
    """Return the page."""
    layers = [(place_name(one), layer_chart(one.layers)) for one in found.evaluations if one.layers]
    return render_template(
        "evaluation.html",
        [asset("theme.js")],
        model=found.model.name,
        task=found.task.name,
        tables=list(_tables(found)),
        sentences=list(sentences(found.evaluations)),
        layers=layers,
        saliency={name: [_saliency(name, one) for one in images] for name, images in found.saliency.items()},
    )


def _tables(found: EvaluationResult) -> Iterator[TableOnPage]:
    for data in found.data:
        table = comparison_table(found.evaluations, data)
        yield _on_page(f"Against the float model: {data}", table, notes_on_data(found.evaluations, data))
    if through := [one for one in found.evaluations if one.delegate != HOST]:
        yield _on_page(
            "What the delegate changed", delegate_table(through), "Against this host's run of the same file."
        )
    for table, legend in condition_tables(found.evaluations):
        yield _on_page("Bad images", table, legend)
    for table, legend in attack_tables(found.evaluations):
        yield _on_page("Attacks", table, legend)


def _on_page(title: str, table: Table, legend: str) -> TableOnPage:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return TableOnPage(
        title, [str(column.header) for column in table.columns], list(zip(*columns, strict=True)), legend
    )


def _saliency(variant: str, one: FlippedInput) -> SaliencyOnPage:
    maps = [answer.float_label_map for answer in (one.floats, one.variant)]
    largest = float(max(abs(values).max() for values in maps))
    return SaliencyOnPage(
        f"Sample {one.sample}, class {one.label}",
        picture(one.image),
        f"float says {one.floats.label} ({100 * one.floats.confidence:.0f} %)",
        heat_map(maps[0], largest),
        f"{variant} says {one.variant.label} ({100 * one.variant.confidence:.0f} %)",
        heat_map(maps[1], largest),
        f"Red: hiding it takes up to {100 * largest:.0f} points of probability from class {one.floats.label}; blue: "
        f"gives them. Correlation of both maps {one.map_correlation:.2f}.",
    )


def layer_chart(errors: Sequence[LayerError]) -> str:
    """Return signal to noise of each layer, in the order of execution, as an SVG data URI."""
    import vl_convert

    rows = [
        {
            "place": place,
            "layer": f"{place + 1} {printable(short_layer_name(error.name))[:40]}",
            "db": error.signal_to_noise_db,
            "added": 100 * error.added_noise,
        }
        for place, error in enumerate(errors)
    ]
    order: dict[str, Any] = {
        "field": "layer",
        "type": "nominal",
        "sort": {"field": "place"},
        "title": None,
        "axis": {"labelLimit": 320},
    }
    bars = [
        {
            "mark": "bar",
            "width": 300,
            "height": {"step": _ROW_HEIGHT_PX},
            "encoding": {
                "y": order if first else {**order, "axis": None},
                "x": {"field": field, "type": "quantitative", "title": title},
            },
        }
        for first, field, title in ((True, "db", "signal to noise, dB"), (False, "added", "noise added, %"))
    ]
    svg = vl_convert.vegalite_to_svg({"data": {"values": rows}, "hconcat": bars, "background": "white"})
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


_FEWEST_PIXELS = 168
"""Smaller pictures are enlarged by repeating pixels: a browser would blur them."""
_COLOURS = np.array([[33, 102, 172], [247, 247, 247], [178, 24, 43]], float)
"""Blue, white, red of ColorBrewer's RdBu, which people with red-green blindness tell apart."""


def picture(image: NDArray[np.uint8]) -> str:
    """Return an image (height, width, 1 or 3) as a data URI."""
    times = max(1, -(-_FEWEST_PIXELS // max(image.shape[:2])))
    colour = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    png = _png(colour.repeat(times, axis=0).repeat(times, axis=1))
    return "data:image/png;base64," + base64.b64encode(png).decode()


def heat_map(values: NDArray[np.float64], largest: float) -> str:
    """Return values from `-largest` (blue) over 0 (white) to `largest` (red) as a data URI."""
    places = np.clip(values / largest, -1, 1) + 1 if largest else np.ones_like(values)
    channels = [np.interp(places, (0, 1, 2), _COLOURS[:, channel]) for channel in range(3)]
    return picture(np.rint(np.stack(channels, axis=2)).astype(np.uint8))


def _png(image: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit RGB, after https://www.w3.org/TR/png-3/ of the W3C."""
    height, width = image.shape[:2]
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
