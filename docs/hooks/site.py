"""What happens while MkDocs builds the site.

The reference is generated from the code, and files of the repository's root become pages. Nothing is written outside
the built site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from code_reference import columns_page, delegates_page, failures_page, techniques_page
from command_line_reference import command_line_page
from file_reference import file_schemas, files_page, json_schemas_page
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/schemas": "reference/json-schemas.md",
}
"""What pages link to in the repository, and the page that stands for it; the site has a first page of its own."""
_LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file under docs/ holds."""
    generated = {
        "reference/command-line.md": command_line_page(),
        "reference/files.md": files_page(),
        "reference/techniques.md": techniques_page(),
        "reference/delegates.md": delegates_page(),
        "reference/columns.md": columns_page(),
        "reference/failures.md": failures_page(),
        "reference/json-schemas.md": json_schemas_page(sorted((ROOT / "docs").glob("schemas/*.json"))),
        **file_schemas(),
        "contributing.md": _root_page("CONTRIBUTING.md"),
        "changelog.md": _root_page("CHANGELOG.md"),
    }
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links that lead to what is no page, such as a file of the repository's root, at the page for it."""
    here = Path(page.file.src_uri).parent

    def lead(link: re.Match[str]) -> str:
        target = os.path.normpath(ROOT / "docs" / here / link["path"])
        stand_in = STAND_INS.get(os.path.relpath(target, ROOT))
        return f"]({os.path.relpath(stand_in, here)}{link['anchor'] or ''})" if stand_in else link[0]

    return _LINK.sub(lead, markdown)


def _root_page(name: str) -> str:
    """Return a file of the root as a page of docs/: its links start one folder lower."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return _LINK.sub(lambda link: f"]({os.path.relpath(link['path'], 'docs')}{link['anchor'] or ''})", text)
