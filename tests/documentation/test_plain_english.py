"""Count words and phrases that plain English avoids.

Neither the documentation nor the package may have any.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_blocks import ROOT

import harness
from harness.analysis.promises import promise_titles
from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS
from harness.sweep.retry import Remedy

MESSAGES_CEILING = 0
"""Marked phrases in string literals of the package: messages, help, captions."""
DOCSTRINGS_CEILING = 0
"""Marked phrases in docstrings and comments of the package."""

PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *ROOT.glob("docs/**/*.md")]
)
REPEATED = (
    *(description for _, description in (COLUMNS | INVOCATION_COLUMNS).values()),
    *promise_titles().values(),
    *Remedy,
)
MODULES = sorted(Path(harness.__file__).parent.rglob("*.py"))

COMMENTED = ("sh", "toml", "python")
"""Languages of blocks whose comments the author wrote."""
_FENCE = re.compile(r"^( *)```(?P<language>\S*)$(?P<text>.*?)^\1```$", re.DOTALL | re.MULTILINE)
_UNITS = (
    "attempt block cell channel class core delegate device file hand host image invocation kernel layer line model "
    "night page phone process recipe result row sample session stage step sweep tensor variant weight window"
).replace(" ", "|")
_COUNTED = r"(?:once|twice|one|two|three|four|five|\d+(?:[.,]\d+)*)"
_NO_VERB = (
    r"(?!(?:is|was|are|be|has|had|in|on|of|at|to|as|by|for|from|with|than|that|if|and|or|into|per|not|without)\b)"
)
MARKED = re.compile(
    rf"""
      \btell(?:s|ing)?\ (?:\w+\ ){{0,2}}whether\b   # return True if
    | \btold\b                                      # printed, returned, logged, reported, stored
    | \banew\b | \bbeside\b | \bwhoever\b | \blest\b | \bso\ many\b | \bsuch\ as\ it\ is\b
    | \bmend(?:s|ed|ing)?\b                         # repair, fix
    | \bcome\ what\ may\b
    | \bcarr(?:y|ies|ied|ying)\ (?:(?!out\b)\w+\ )?on\b  # resume, continue
    | \btak(?:e|es|en|ing)\ up\ again\b             # resume
    | \bsittings?\b                                 # session
    | \bcostumes?\b                                 # recording
    | \bthe\ making\ of\b                           # compression
    | \b{_COUNTED}(?:\ {_NO_VERB}[a-z-]+){{0,2}}\ an?\ (?:{_UNITS})\b  # per
    """,
    re.VERBOSE | re.IGNORECASE,
)


def marked_phrases(text: str) -> list[str]:
    return [found[0] for found in MARKED.finditer(" ".join(text.split()))]


def prose_of(page: Path) -> str:
    """Return the text of a page without code, link targets and sentences that a page repeats from the package.

    Comments in code are prose too; what a command prints is not.
    """
    text = _FENCE.sub(_comments, page.read_text(encoding="utf-8"))
    for sentence in REPEATED:
        text = text.replace(sentence, "")
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


def _comments(fence: re.Match[str]) -> str:
    return "\n".join(re.findall(r"# .*", fence["text"])) if fence["language"] in COMMENTED else ""


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def docstrings_in(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield docstrings, those of attributes included."""
    yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and is_text(node.value))


def docstrings_and_comments(source: str) -> Iterator[str]:
    yield from (docstring.value for docstring in docstrings_in(ast.parse(source)))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def messages(source: str) -> Iterator[str]:
    """Yield string literals that are prose. Stored names, such as `sittings`, have no space."""
    tree = ast.parse(source)
    docstrings = set(docstrings_in(tree))
    for node in ast.walk(tree):
        if is_text(node) and node not in docstrings and " " in node.value.strip():
            yield node.value


def found_in_package(texts_of) -> list[str]:
    return [
        f"{module.relative_to(ROOT)}: {phrase}"
        for module in MODULES
        for text in texts_of(module.read_text(encoding="utf-8"))
        for phrase in marked_phrases(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documentation_is_plain(page):
    assert marked_phrases(prose_of(page)) == []


def test_messages_get_plainer():
    found = found_in_package(messages)
    assert len(found) <= MESSAGES_CEILING, "\n".join(found)


def test_docstrings_get_plainer():
    found = found_in_package(docstrings_and_comments)
    assert len(found) <= DOCSTRINGS_CEILING, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "Tell whether it is ready.",
        "Tells at once whether it is ready.",
        "It is prepared anew.",
        "one row a cell",
        "Processes of one sitting.",
        "One class a knob, 30 invocations a cell",
        "once a\nsweep",
        "carry it on",
        "The sweep is carried on.",
        "as it was told",
    ],
)
def test_marked_phrases_are_found(text):
    assert marked_phrases(text)


@pytest.mark.parametrize(
    "text",
    [
        "Return True if it is ready.",
        "one row per cell",
        "One is a phone.",
        "recommended",
        "the other side",
        "Continue on a phone.",
        "two of a model",
        "`sittings`",
        "one phone, a cell",
        "a cell that was abandoned",
        "it was carried out on a phone",
        "twice a second",
        "60 nights without a step",
    ],
)
def test_plain_phrases_pass(text):
    assert marked_phrases(re.sub(r"`[^`]*`", "", text)) == []


def test_code_and_stored_names_do_not_count(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Column `sittings`.\n```sh\nbeside\n```\n```text\n# anew\n```\n[link](beside.md)\n")
    assert marked_phrases(prose_of(page)) == []
    page.write_text("```sh\nharness # anew\n```\n")
    assert marked_phrases(prose_of(page)) == ["anew"]
    source = '"""Anew."""\nX = "sittings"\nY = f"{X} is prepared anew."\n'
    assert [marked_phrases(text) for text in messages(source)] == [["anew"]]
