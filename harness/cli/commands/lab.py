"""`harness lab`: the processes that make one lab of many hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.output import error_console
from harness.cli.verb import Verb

app = Verb(
    no_args_is_help=True,
    help="Make one lab of many hosts, for `harness sweep --lab`.",
    epilog="Example: harness lab scheduler, then harness lab worker tcp://HOST:8786 on each computer with phones",
)


def _tell(text: str) -> None:
    error_console().print(text, markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: harness lab scheduler --port 8786")
def scheduler(
    host: Annotated[str | None, typer.Option(help="Address to listen at; default: all of this computer's.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8786,
) -> None:
    """Open a lab: the one process that its hosts and sweeps connect to. Ends with Ctrl-C."""
    from harness.lab.processes import serve_scheduler

    serve_scheduler(host, port, _tell)


@app.command(epilog="Example: harness lab worker tcp://lab-server:8786")
def worker(
    scheduler: Annotated[str, typer.Argument(metavar="SCHEDULER", help="The lab's address, such as tcp://HOST:8786.")],
    name: Annotated[str | None, typer.Option(help="What the lab calls this host; default: its own name.")] = None,
) -> None:
    """Give this computer's phones to a lab, as they come and go. Ends with Ctrl-C; what is under way is finished."""
    from harness.lab.processes import serve_worker

    serve_worker(scheduler, name, _tell)
