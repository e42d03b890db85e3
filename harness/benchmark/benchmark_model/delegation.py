"""Requested against achieved: what a log proves about the delegate that ran (promise H13)."""

from __future__ import annotations

import re

from harness.benchmark.benchmark_model.log import BenchmarkLog, DelegateUse, ExplicitDelegate
from harness.benchmark.delegates import Delegate, find_delegate
from harness.benchmark.invocation import Delegation
from harness.errors import Failure, FailureClass

_UNSUPPORTED_PLATFORM = re.compile(r"acceleration is unsupported on this platform")
_REFUSED_OPERATIONS = re.compile(r"Following operations are not supported by (.*) delegate")
_FAILED_TO_APPLY = re.compile(r"Failed to apply .* delegate")
_CREATED_KERNELS = re.compile(r"Created (\d+) GPU delegate kernels")


def conclude_delegation(log: BenchmarkLog, requested: str) -> Delegation:
    """Return what was achieved for a request such as `gpu`. Raises `UsageError` for an unknown delegate."""
    delegate = find_delegate(requested)
    if delegate.is_cpu:
        return _on_cpu(log, requested)
    use = _use_of(log, delegate)
    fell_back = _fell_back(log, delegate, use)
    explicit = _explicit_of(log, delegate)
    ran = bool(use and use.delegated) or bool(explicit and explicit.extent != "none")
    ran = ran or (fell_back is None and _created(log))
    return Delegation(
        requested=requested,
        achieved=requested if ran else _cpu_kind(log),
        delegated_nodes=use.delegated if use else (0 if not ran and fell_back else None),
        total_nodes=use.total if use else None,
        partitions=use.partitions if use else None,
        fell_back=fell_back,
        reason=refusal(log) if fell_back else "",
    )


def _on_cpu(log: BenchmarkLog, requested: str) -> Delegation:
    use = _use_of(log, find_delegate("cpu"))
    return Delegation(
        requested=requested,
        achieved=_cpu_kind(log),
        delegated_nodes=use.delegated if use else None,
        total_nodes=use.total if use else None,
        partitions=use.partitions if use else None,
        fell_back=False,  # XNNPACK is a CPU delegate: taking a part of the graph is not leaving the CPU
    )


def _cpu_kind(log: BenchmarkLog) -> str:
    """Tell XNNPACK from the built-in kernels; a sentence about a refused XNNPACK outweighs its creation."""
    xnnpack = find_delegate("cpu")
    explicit = _explicit_of(log, xnnpack)
    if explicit and explicit.extent == "none":
        return "cpu-builtin"
    created = any("XNNPACK delegate" in line.text for line in log.lines)
    return "cpu" if created or explicit or _use_of(log, xnnpack) else "cpu-builtin"


def _fell_back(log: BenchmarkLog, delegate: Delegate, use: DelegateUse | None) -> bool | None:
    if any(_UNSUPPORTED_PLATFORM.search(line.text) for line in log.lines) or log.accelerator_counter == 0:
        return True
    if any(_FAILED_TO_APPLY.search(line.text) for line in log.lines):
        return False  # the run ended there: nothing ran anywhere else
    explicit = _explicit_of(log, delegate)
    if explicit:
        return explicit.extent != "complete"
    if use:
        return use.delegated < use.total
    if log.op_profile_nodes:
        shares = [_mentions(row.node_type, delegate) for row in log.op_profile_nodes]
        return None if not any(shares) else not all(shares)
    return None


def _explicit_of(log: BenchmarkLog, delegate: Delegate) -> ExplicitDelegate | None:
    found = [explicit for explicit in log.explicit if _mentions(explicit.delegate, delegate)]
    return found[-1] if found else None


def _created(log: BenchmarkLog) -> bool:
    return any(_CREATED_KERNELS.search(line.text) for line in log.lines)


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


def _use_of(log: BenchmarkLog, delegate: Delegate) -> DelegateUse | None:
    uses = [use for use in log.delegations if _mentions(use.delegate, delegate)]
    return uses[-1] if uses else None


def _mentions(text: str, delegate: Delegate) -> bool:
    return any(name in text for name in delegate.log_names)


def refusal(log: BenchmarkLog) -> str:
    """Return the runtime's own sentences about what it refused, at most a few lines."""
    for index, line in enumerate(log.lines):
        if _UNSUPPORTED_PLATFORM.search(line.text):
            return line.text
        if _REFUSED_OPERATIONS.search(line.text):
            return " ".join(part.text for part in log.lines[index : index + 6] if not part.level or part is line)
    return next((line.text for line in log.lines if "will not be executed by the delegate" in line.text), "")
