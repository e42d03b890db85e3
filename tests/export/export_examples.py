"""Tables that are hard to export: every column of both tables, with values that break naive writers."""

import math

from hypothesis import strategies as st

from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS, JSON_VALUES, LISTS_OF_NUMBERS, LISTS_OF_TEXT
from harness.export.tables import typed_frame

HOSTILE = [
    "",
    " ",
    "'",
    "''",
    '"',
    ",",
    ";",
    "|",
    "\\",
    "\\|",
    "&",
    "%",
    "$",
    "#",
    "_",
    "{}",
    "~",
    "^",
    "`",
    "*",
    "<script>alert(1)</script>",
    "=cmd()",
    "'=cmd()",
    "''=1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "a\nb",
    "a\r\nb",
    "\\input{/etc/passwd}",
    "None",
    "nan",
    "NULL",
    "true",
    "1",
    "1.0",
    "[]",
    "{}",
    "日本語",
    "🤖",
]

TEXT = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
OBJECTS = st.dictionaries(TEXT, st.none() | TEXT | FINITE | st.booleans(), max_size=3)


def values_of(name, kind, *, infinite=True):
    """Return a strategy for the values of a column, missing ones included."""
    if name in LISTS_OF_TEXT:
        return st.lists(TEXT, max_size=3) | st.none()
    if name in LISTS_OF_NUMBERS:
        return st.lists(FINITE, max_size=3) | st.none()
    if name in JSON_VALUES:
        return (OBJECTS if JSON_VALUES[name] == "object" else st.lists(OBJECTS, max_size=2)) | st.none()
    numbers = FINITE | st.sampled_from([math.inf, -math.inf]) if infinite else FINITE
    strategies = {
        "Int64": st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans(),
        "float64": numbers,
        "object": TEXT,
    }
    return strategies[kind] | st.none()


@st.composite
def tables(draw, *, infinite=True):
    """Return a table of either kind with a few rows, and with none."""
    columns = draw(st.sampled_from([COLUMNS, INVOCATION_COLUMNS]))
    names = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=6, unique=True))
    count = draw(st.integers(0, 3))
    return typed_frame(
        {
            name: draw(st.lists(values_of(name, columns[name][0], infinite=infinite), min_size=count, max_size=count))
            for name in names
        }
    )
