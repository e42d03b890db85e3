"""The option that says where results are kept, shared by every verb that stores or reads them."""

from __future__ import annotations

from typing import Annotated

import typer

ResultsOption = Annotated[
    str | None,
    typer.Option(
        "--results",
        metavar="FOLDER|URL",
        help="Folder of results, or a database that hosts share: postgresql://USER@HOST/DATABASE; default: results/.",
    ),
]
