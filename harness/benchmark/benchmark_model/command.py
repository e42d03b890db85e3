"""Build a tool's command line from a request, out of the flags that this very binary supports (promise H12)."""

from __future__ import annotations

from collections.abc import Iterable

from harness.benchmark.delegates import CACHE_FLAGS, find_delegate, flags_for
from harness.benchmark.invocation import InvocationRequest, Pass
from harness.benchmark.tool import Tool, ToolFamily
from harness.errors import Failure, FailureClass, FailureError

_FULL_DELEGATION = "require_full_delegation"
_OP_PROFILE = "enable_op_profiling"
_RUN_FREQUENCY = "run_frequency"
_OP_PROFILE_GROWS = "allow_dynamic_profiling_buffer_increase"


def build_arguments(tool: Tool, tool_path: str, request: InvocationRequest) -> list[str]:
    """Return the argument list, program first.

    Raises `FailureError` (`tool_rejected_flag`) when the tool lacks a flag without which another thing would be
    measured, and (`delegate_unavailable`) when it does not offer the delegate.
    """
    flags = _model_and_counts(request) + _delegate_flags(tool, request) + _data_flags(request)
    if request.cache_folder is not None:
        flags += cache_flags(tool, request.delegate, request.cache_folder)
    if request.runs_per_s is not None:
        flags.append((_RUN_FREQUENCY, f"{request.runs_per_s:g}"))
    if request.purpose is Pass.MEMORY:
        flags.append(("report_peak_memory_footprint", "true"))
    if request.purpose is Pass.OP_PROFILE:
        flags += _op_profile_flags(tool)
    if request.require_full_delegation and can_require_full_delegation(tool, request.delegate):
        flags.append((_FULL_DELEGATION, "true"))
    missing = [name for name, _ in flags if tool.flags is not None and name not in tool.flags]
    if missing:
        raise FailureError(
            Failure(
                FailureClass.TOOL_REJECTED_FLAG,
                f"The tool {tool.name} has no flag {', '.join('--' + name for name in missing)}, which this needs.",
                f"tool {tool.sha256}",
            )
        )
    return [tool_path, *(f"--{name}={value}" for name, value in flags)]


def can_require_full_delegation(tool: Tool, delegate: str) -> bool:
    """Return True if the tool itself is asked; if it cannot be, its log is judged alone."""
    knows = tool.family == ToolFamily.INTERPRETER and tool.flags is not None and _FULL_DELEGATION in tool.flags
    return knows and not find_delegate(delegate).is_cpu


def offers_op_profile(tool: Tool) -> bool:
    """Return True if a tool can say where the time goes."""
    return tool.flags is not None and _OP_PROFILE in tool.flags


def offers_run_frequency(tool: Tool) -> bool:
    """Return True if a tool can begin its runs at given times instead of one right after the other."""
    return tool.flags is not None and _RUN_FREQUENCY in tool.flags


def offers_raw_tensors(tool: Tool) -> bool:
    """Return True if a tool reads inputs from files and writes its outputs."""
    if tool.flags is None:
        return tool.family == ToolFamily.INTERPRETER
    return {"input_layer_value_files", "output_filepath"} <= tool.flags


def _op_profile_flags(tool: Tool) -> list[tuple[str, str]]:
    """Without the second flag the profile of a large graph is cut off, in silence."""
    grows = [(_OP_PROFILE_GROWS, "true")] if tool.flags and _OP_PROFILE_GROWS in tool.flags else []
    return [(_OP_PROFILE, "true"), *grows]


def cache_flags(tool: Tool, delegate: str, folder: str) -> list[tuple[str, str]]:
    """Return the flags by which this tool lets a delegate keep its cache in a folder; empty if it cannot."""
    known = tool.flags or frozenset()
    return [(name, value.format(folder=folder)) for name, value in find_delegate(delegate).cache_flags if name in known]


def keeps_cache(command: Iterable[str]) -> bool:
    """Return True if a command line lets its delegate keep a cache."""
    return any(argument.removeprefix("--").partition("=")[0] in CACHE_FLAGS for argument in command)


def _model_and_counts(request: InvocationRequest) -> list[tuple[str, str]]:
    return [
        ("graph", request.model),
        ("num_threads", str(request.threads)),
        ("num_runs", str(request.runs)),
        ("min_secs", f"{request.min_s:g}"),  # 0 as a rule: else the count is not the one that was asked for
        ("max_secs", f"{request.max_s:g}"),
        ("warmup_runs", str(request.warmup_runs)),
        ("warmup_min_secs", f"{request.warmup_min_s:g}"),
    ]


def _delegate_flags(tool: Tool, request: InvocationRequest) -> list[tuple[str, str]]:
    if tool.family != ToolFamily.COMPILED_MODEL:
        return flags_for(request.delegate)
    flags = find_delegate(request.delegate).compiled_model_flags
    if flags is None:
        raise FailureError(
            Failure(FailureClass.DELEGATE_UNAVAILABLE, f"LiteRT's tool has no delegate {request.delegate}.", tool.name)
        )
    return list(flags)


def _data_flags(request: InvocationRequest) -> list[tuple[str, str]]:
    flags: list[tuple[str, str]] = []
    if request.inputs:
        # Inputs are matched by position, so names of our own avoid every character that the tool's lists split at.
        names = [f"input{index}" for index in range(len(request.inputs))]
        shapes = [",".join(map(str, tensor.shape)) for tensor in request.inputs]
        files = [f"{name}:{_escaped(tensor.path)}" for name, tensor in zip(names, request.inputs, strict=True)]
        flags += [("input_layer", ",".join(names)), ("input_layer_shape", ":".join(shapes))]
        flags.append(("input_layer_value_files", ",".join(files)))
    if request.output_file is not None:
        flags.append(("output_filepath", request.output_file))
    return flags


def _escaped(path: str) -> str:
    """Double the colons of a path: the tool's way to escape its delimiter (its own help text says otherwise)."""
    return path.replace(":", "::")
