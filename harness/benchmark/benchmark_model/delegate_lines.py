"""The sentences of a log about delegates: what each took of which graph, and which could not be had."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.benchmark.log_lines import LogLine, is_named

_INTEGER = r"\d{1,18}"
_REPLACING = re.compile(
    rf"Replacing (?P<delegated>{_INTEGER})(?: out of (?P<total>{_INTEGER}))? node\(s\) "
    rf"with delegate \((?P<delegate>[^)]{{0,200}})\) node(?:, yielding (?P<partitions>{_INTEGER}) partitions)?"
    r"(?: for subgraph (?P<graph>\d{1,9})(?: \((?P<name>[^)]{0,200})\))?)?"
)
_TOOK = re.compile(
    rf"(?:(?P<delegate>[\w.-]{{1,60}}(?: [\w.-]{{1,60}}){{0,2}}?)(?: [Dd]elegate)?: |, )"
    rf"(?P<delegated>{_INTEGER}) nodes? delegated out of (?P<total>{_INTEGER})"
    rf"(?: nodes?)?(?:,? with (?P<partitions>{_INTEGER}) partitions)?"
)
"""A vendor's own count: `QNN delegate: 47 nodes`, `EthosuDelegate: 1 nodes`, `Number of subgraphs:1 , 11 nodes`."""
_EXPLICIT = re.compile(
    r"(?:Explicitly a|\bA)pplied (?P<delegate>[^,]{1,80}?) delegate, and the model graph will be (?P<extent>completely"
    rf"|partially) executed(?: (?:by|w/) the delegate w/ (?P<kernels>{_INTEGER}) delegate kernels)?"
)
_NOT_EXECUTED = re.compile(
    r"Though (?P<delegate>[^,]{1,80}?) delegate is explicitly applied, the model graph will not be executed"
)
_NOT_THERE = re.compile(
    r"(?:^|\s)(?:Could not create (?P<a>[^:]{1,60}?) delegate|(?P<b>\w{1,40}) acceleration is unsupported on this "
    r"platform|(?P<c>\w{1,40}) [Dd]elegate is not supported|(?P<d>\w{1,40}) accelerator could not be loaded"
    r"|Invalid TFLiteSettings for the (?P<e>\w{1,40}) delegate|Failed to create a (?P<f>\w{1,40}) delegate kernel)"
)
_NOT_THERE_WORDS = (
    "Could not create ",
    " is unsupported",
    " is not supported",
    " could not be loaded",
    "Invalid TFLite",
)


@dataclass(frozen=True)
class DelegateUse:
    """What one delegate took of one graph. None: the sentence leaves it out."""

    delegate: str
    delegated_nodes: int
    total_nodes: int | None
    partitions: int | None
    graph: int = 0
    graph_name: str = ""

    @property
    def is_whole(self) -> bool | None:
        """Return True if nothing of the graph was left over; one partition alone is the whole graph, too."""
        if self.total_nodes is not None or not self.delegated_nodes:
            return self.delegated_nodes >= (self.total_nodes or 1)
        return self.partitions == 1 if self.partitions is not None else None

    def may_follow(self, earlier: DelegateUse) -> bool:
        """Return True if this took from what `earlier` left over; else the graph was restored before."""
        if self == earlier:
            return False
        if self.total_nodes is None or earlier.total_nodes is None:
            return self.delegate != earlier.delegate
        kernels = earlier.delegated_nodes if earlier.partitions is None else (earlier.partitions + 1) // 2
        return self.total_nodes <= earlier.total_nodes - earlier.delegated_nodes + kernels


@dataclass(frozen=True)
class ExplicitDelegate:
    """The tool's own sentence about a delegate that it had to apply."""

    delegate: str
    extent: str
    """`complete`, `partial` or `none`."""
    kernels: int | None = None


@dataclass(frozen=True)
class DelegateLines:
    """All sentences of one run about delegates, in order."""

    uses: tuple[DelegateUse, ...] = ()
    explicit: tuple[ExplicitDelegate, ...] = ()
    not_there: tuple[tuple[str, LogLine], ...] = ()
    """Delegates that could not be had, each with its line."""

    def graphs(self) -> dict[tuple[int, str], list[DelegateUse]]:
        """Return what was taken of each graph in the end, the first delegate first."""
        found: dict[tuple[int, str], list[DelegateUse]] = {}
        for use in self.uses:
            so_far = found.setdefault((use.graph, use.graph_name), [])
            if so_far and not use.may_follow(so_far[-1]):
                so_far.clear()
            so_far.append(use)
        return found

    def shares(self, is_counted: Callable[[str], bool]) -> dict[tuple[int, str], DelegateUse]:
        """Return what the delegates of some names took of each graph, of all nodes that it had at first."""
        return {index: _share(uses, is_counted) for index, uses in self.graphs().items()}

    def applied(self, is_counted: Callable[[str], bool]) -> ExplicitDelegate | None:
        """Return the tool's own sentence about the last such delegate; None without one."""
        return next((line for line in reversed(self.explicit) if is_counted(line.delegate)), None)

    def extent(self, is_counted: Callable[[str], bool]) -> str | None:
        """Return how far the last such delegate took the graph, in the tool's own sentence; None without one."""
        applied = self.applied(is_counted)
        return applied.extent if applied else None

    def main_graph(self, signature: str | None) -> tuple[int, str] | None:
        """Return the graph of a signature, else the first; None if the log names no graph."""
        graphs = sorted(self.graphs(), key=lambda graph: graph[0])
        return next((graph for graph in graphs if signature and graph[1] == signature), next(iter(graphs), None))


def _share(uses: Sequence[DelegateUse], is_counted: Callable[[str], bool]) -> DelegateUse:
    taken = [use for use in uses if is_counted(use.delegate)]
    return DelegateUse(
        taken[-1].delegate if taken else "",
        sum(use.delegated_nodes for use in taken),
        uses[0].total_nodes,
        taken[-1].partitions if taken else None,
        uses[0].graph,
        uses[0].graph_name,
    )


def read_delegate_lines(lines: Sequence[LogLine]) -> DelegateLines:
    """Read every sentence about a delegate."""
    uses: list[DelegateUse] = []
    explicit: list[ExplicitDelegate] = []
    not_there: list[tuple[str, LogLine]] = []
    for line in lines:
        text = line.text
        if "elegate" not in text and "ccelerat" not in text:
            continue
        if "node" in text and (match := _REPLACING.search(text) or _TOOK.search(text)):
            _add(uses, match)
        elif "pplied " in text and (match := _EXPLICIT.search(text)):
            kernels = int(match["kernels"]) if match["kernels"] else None
            extent = {"completely": "complete", "partially": "partial"}[match["extent"]]
            explicit.append(ExplicitDelegate(match["delegate"], extent, kernels))
        elif "Though " in text and (match := _NOT_EXECUTED.search(text)):
            explicit.append(ExplicitDelegate(match["delegate"], "none"))
        elif is_named(text, _NOT_THERE_WORDS) and (match := _NOT_THERE.search(text)):
            not_there.append((next(filter(None, match.groups())), line))
    return DelegateLines(tuple(uses), tuple(explicit), tuple(not_there))


def _add(uses: list[DelegateUse], match: re.Match[str]) -> None:
    """Add a use. A delegate's own count and the runtime's `Replacing` for it are one."""
    found = match.groupdict()
    total, partitions = (int(found[name]) if found[name] else None for name in ("total", "partitions"))
    graph, name = int(found.get("graph") or 0), found.get("name") or ""
    use = DelegateUse(found["delegate"] or "unnamed", int(found["delegated"]), total, partitions, graph, name)
    before = uses[-1] if uses and match.re is _REPLACING else None
    is_same = before and before.delegated_nodes == use.delegated_nodes and total in (None, before.total_nodes)
    if before and is_same and before.delegate in use.delegate and before.graph == use.graph:
        use = replace(use, total_nodes=uses.pop().total_nodes)
    uses.append(use)
