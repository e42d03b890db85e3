"""Requested against achieved: what a log proves about the delegate that ran (promise H13)."""

from __future__ import annotations

import re
from functools import partial

from harness.benchmark.benchmark_model.delegate_lines import DelegateUse, ExplicitDelegate
from harness.benchmark.benchmark_model.log import BenchmarkLog
from harness.benchmark.delegates import Delegate, find_delegate, find_delegate_of_log, is_called, kind_of
from harness.benchmark.invocation import Delegation
from harness.benchmark.log_lines import is_named
from harness.errors import Failure, FailureClass

_REFUSED_OPERATIONS = re.compile(r"Following operations are not supported by .{1,60}? delegate")
_CREATED_KERNELS = re.compile(r"Created [1-9]\d{0,9} GPU delegate kernels")
_SWITCHED_OFF = re.compile(r": \[(?:0|false)?\]$|=(?:0|false)$")


def conclude_delegation(log: BenchmarkLog, requested: str) -> Delegation:
    """Return what was achieved for a request such as `gpu`. Raises `UsageError` for an unknown delegate."""
    delegate = find_delegate_of_log(requested)
    use = _use_of(log, delegate)
    ran = _ran(log, delegate, use)
    fell_back = _fell_back(log, delegate, use)
    if delegate.is_cpu:
        fell_back, ran = False, False  # XNNPACK is a CPU delegate: taking a part of the graph is not leaving the CPU
    elif not ran and fell_back is None and any(_CREATED_KERNELS.search(line.text) for line in log.lines):
        ran = True
    took_none = not delegate.is_cpu and fell_back and not ran
    return Delegation(
        requested=requested,
        achieved=requested if ran else _achieved_otherwise(log, delegate),
        delegated_nodes=use.delegated_nodes if use and (use.delegate or took_none) else (0 if took_none else None),
        total_nodes=use.total_nodes if use and (use.delegate or took_none) else None,
        partitions=use.partitions if use else None,
        fell_back=fell_back,
        reason=refusal(log) if fell_back else "",
    )


def explicitly_applied(log: BenchmarkLog, requested: str) -> ExplicitDelegate | None:
    """Return the tool's sentence about the delegate that was asked for; without one, the sentence that counts."""
    return log.delegates.applied(partial(is_called, find_delegate_of_log(requested))) or log.main_explicit


def _use_of(log: BenchmarkLog, delegate: Delegate) -> DelegateUse | None:
    """Return what a delegate took of the graph that ran: all nodes that the graph had at first are the whole."""
    graph = log.delegates.main_graph(log.signature)
    return None if graph is None else log.delegates.shares(partial(is_called, delegate))[graph]


def _ran(log: BenchmarkLog, delegate: Delegate, use: DelegateUse | None) -> bool:
    return bool(use and use.delegated_nodes) or log.delegates.extent(partial(is_called, delegate)) in (
        "complete",
        "partial",
    )


def _achieved_otherwise(log: BenchmarkLog, requested: Delegate) -> str:
    """Return the accelerator that took a part though another was asked for, else the kind of CPU kernels."""
    named = [use.delegate for uses in log.delegates.graphs().values() for use in uses if use.delegated_nodes]
    named += [explicit.delegate for explicit in log.delegates.explicit if explicit.extent != "none"]
    for name in named:
        kind = kind_of(name)
        if kind is None or not (kind.is_cpu or kind.name == requested.name):
            return kind.name.rstrip(":") if kind else name
    return _cpu_kind(log)


def _cpu_kind(log: BenchmarkLog) -> str:
    """Tell XNNPACK from the built-in kernels; a sentence about a refused XNNPACK outweighs its creation."""
    is_xnnpack = partial(is_called, find_delegate("cpu"))
    if extent := log.delegates.extent(is_xnnpack):
        return "cpu-builtin" if extent == "none" else "cpu"
    created = any("XNNPACK delegate" in line.text for line in log.lines)
    return "cpu" if created or any(is_xnnpack(use.delegate) for use in log.delegates.uses) else "cpu-builtin"


def _fell_back(log: BenchmarkLog, delegate: Delegate, use: DelegateUse | None) -> bool | None:
    """Return True if nodes of the graph ran elsewhere; None if the log does not show where."""
    if not_there(log, delegate) or log.accelerator_counter == 0:
        return True
    if not log.measured and any("Failed to apply " in line.text for line in log.lines):
        return False  # the run ended there: nothing ran anywhere else
    if extent := log.delegates.extent(partial(is_called, delegate)):
        return extent != "complete"
    if use:
        return _left_nodes(log, delegate, use)
    if log.op_profile_nodes:
        rows = [is_named(row.node_type, delegate.log_names) for row in log.op_profile_nodes]
        return None if not any(rows) else not all(rows)
    return True if _is_on_cpu_alone(log, delegate) else None


def _left_nodes(log: BenchmarkLog, delegate: Delegate, use: DelegateUse) -> bool | None:
    """Return True if nodes of the graph that ran were left over, or of any graph if the log does not say which ran."""
    is_of_signature = log.signature and use.graph_name == log.signature
    shares = [use] if is_of_signature else log.delegates.shares(partial(is_called, delegate)).values()
    whole = [share.is_whole for share in shares]
    if False in whole:
        return True
    return None if None in whole else False


def _is_on_cpu_alone(log: BenchmarkLog, delegate: Delegate) -> bool:
    """Return True if XNNPACK was made and nothing in the log names the delegate."""
    if _cpu_kind(log) != "cpu":
        return False
    own_name = re.compile(rf"(?<![a-z]){delegate.name.rstrip(':')}(?![a-z])", re.IGNORECASE)
    texts = (line.text for line in log.lines)
    named = (text for text in texts if is_named(text, delegate.log_names) or own_name.search(text))
    return all(_SWITCHED_OFF.search(text) for text in named)


def not_there(log: BenchmarkLog, delegate: Delegate) -> str:
    """Return the sentence by which the runtime says that it has no such delegate; empty if there is none."""
    missing = log.delegates.not_there
    own_name = delegate.name.rstrip(":")
    return next((line.text for name, line in missing if is_called(delegate, name) or name.lower() == own_name), "")


def full_delegation_failure(delegation: Delegation) -> Failure | None:
    """Return the failure of an accelerator that left anything to the CPU; None if nothing is known to be left."""
    if find_delegate(delegation.requested).is_cpu:
        return None
    counted = delegation.delegated_nodes is not None and delegation.total_nodes is not None
    left_over = counted and delegation.delegated_nodes != delegation.total_nodes
    return left_over_failure(delegation) if left_over or delegation.fell_back else None


def left_over_failure(delegation: Delegation, *evidence: str) -> Failure:
    """Say how much of the graph was left over, with the operators in the runtime's own words where it names them."""
    nodes = ""
    if delegation.delegated_nodes is not None and delegation.total_nodes is not None:
        left = delegation.total_nodes - delegation.delegated_nodes
        nodes = f": {left} of {delegation.total_nodes} nodes were left over"
    return Failure(
        FailureClass.FELL_BACK,
        f"{delegation.requested} did not take the whole graph, which was required{nodes}.",
        "\n".join(dict.fromkeys(filter(None, (*evidence, delegation.reason)))),
    )


def refusal(log: BenchmarkLog) -> str:
    """Return the runtime's own sentences about what it refused, at most a few lines."""
    if log.delegates.not_there:
        return log.delegates.not_there[0][1].text
    for index, line in enumerate(log.lines):
        if _REFUSED_OPERATIONS.search(line.text):
            return " ".join(part.text for part in log.lines[index : index + 6] if not part.level or part is line)
    return next((line.text for line in log.lines if "will not be executed by the delegate" in line.text), "")
