"""The delegates that can be asked for: the flags that ask, and the names by which a log proves that they ran.

To add one, write its `Delegate` here and name it in the docs; nothing else knows delegates by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.benchmark.log_lines import is_named
from harness.errors import UsageError


@dataclass(frozen=True)
class Delegate:
    """One delegate as it is asked for."""

    name: str
    flags: tuple[tuple[str, str], ...]
    """Flags of the interpreter tool, as (name, value); `{accelerator}` is what stands after the colon."""
    is_cpu: bool
    log_names: tuple[str, ...]
    """Parts of the delegate names in `Replacing ...`, `Explicitly applied ...` and op-profile lines."""
    compiled_model_flags: tuple[tuple[str, str], ...] | None = None
    """Flags of LiteRT's tool; None: that tool does not offer it."""
    cache_flags: tuple[tuple[str, str], ...] = ()
    """Flags that let it keep what it compiled in `{folder}`, of all tools; a tool is sent those that it knows."""


_SERIALIZATION = (("delegate_serialize_dir", "{folder}"), ("delegate_serialize_token", "model"))
_GPU_CACHE = (*_SERIALIZATION, ("gpu_serialization_dir", "{folder}"), ("gpu_model_cache_key", "model"))
_GPU = (
    *("GPU", "TfLiteGpuDelegate", "LITERT_CL", "LITERT_GL", "LITERT_WEBGPU", "LITERT_METAL", "LITERT_VULKAN"),
    *("Metal", "METAL", "WebGPU"),
)
_NNAPI = ("NNAPI", "TfLiteNnapiDelegate")
_QNN, _HEXAGON = ("Qnn", "QNN"), ("Hexagon", "HEXAGON")
_NPU = (
    *(
        "DispatchDelegate",
        "dispatch",
        "LITERT_NPU",
        "NPU delegate",
        "NPU accelerator",
        *_QNN,
        *_HEXAGON,
        "Neuron",
        "NEURON",
    ),
    *("GoogleTensor", "Google Tensor", "EdgeTpu", "EdgeTPU", "Darwinn", "Ethos", "Neutron", "ArmNN", "Armnn", "ArmNn"),
)
"""The vendors' delegates, and LiteRT's own, which hands them a graph that was compiled for their NPU."""
_WEIGHT_CACHE = (("xnnpack_weight_cache_file_path", "{folder}/weights"),)

# gpu and nnapi leave XNNPACK at its default, as an app does: what the accelerator refuses then runs on the CPU at its
# usual speed, and the log reports the refusal, not a slower number.
DELEGATES: dict[str, Delegate] = {
    delegate.name: delegate
    for delegate in (
        Delegate(
            "cpu", (("use_xnnpack", "true"),), True, ("XNNPACK", "XNNPack"), (("use_cpu", "true"),), _WEIGHT_CACHE
        ),
        Delegate("cpu-builtin", (("use_xnnpack", "false"),), True, ()),
        Delegate(
            "gpu",
            (("use_gpu", "true"),),
            False,
            _GPU,
            # without the last one, LiteRT's tool adds the CPU by itself and runs there what the GPU does not take
            (("use_gpu", "true"), ("use_cpu", "false"), ("require_full_delegation", "true")),
            _GPU_CACHE,
        ),
        Delegate("nnapi", (("use_nnapi", "true"),), False, _NNAPI, cache_flags=_SERIALIZATION),
        Delegate(
            "nnapi:",
            (("use_nnapi", "true"), ("nnapi_accelerator_name", "{accelerator}")),
            False,
            _NNAPI,
            cache_flags=_SERIALIZATION,
        ),
        Delegate(
            "external:", (("external_delegate_path", "{accelerator}"),), False, ("EXTERNAL", "Vx Delegate", *_NPU)
        ),
    )
}

_ONLY_IN_LOGS = {
    delegate.name: delegate
    for delegate in (
        Delegate("hexagon", (), False, _HEXAGON),
        Delegate("qnn", (), False, _QNN),
        Delegate("npu", (), False, _NPU),
        Delegate("flex", (), True, ("Flex",)),  # TensorFlow's own operators, on the CPU
        Delegate("coreml", (), False, ("CoreML", "CoreMl", "COREML")),
        Delegate("stable", (), False, ("stable", "Stable", "STABLE")),
    )
}
"""Delegates that harness asks no tool for, though a log that people bring may be about one."""


def find_delegate(name: str, allowed_names: Iterable[str] = DELEGATES) -> Delegate:
    """Return the delegate for a requested name such as `gpu` or `nnapi:qti-dsp`. Raises `UsageError`."""
    base, colon, accelerator = name.partition(":")
    delegate = DELEGATES.get(base + colon)
    if delegate is None or (colon and not accelerator):
        allowed = ", ".join(key if not key.endswith(":") else f"{key}ACCELERATOR" for key in allowed_names)
        raise UsageError(f"Unknown delegate {name!r}.", f"Allowed are: {allowed}.")
    return delegate


def find_delegate_of_log(name: str) -> Delegate:
    """Return the delegate that a log was asked about: also one that harness itself cannot ask a tool for."""
    return _ONLY_IN_LOGS.get(name) or find_delegate(name, [*DELEGATES, *_ONLY_IN_LOGS])


def kind_of(log_name: str) -> Delegate | None:
    """Return the delegate that a log calls by a name such as `TfLiteNnapiDelegate`; None for an unknown one."""
    known = (*_ONLY_IN_LOGS.values(), *DELEGATES.values())
    return next((delegate for delegate in known if is_named(log_name, delegate.log_names)), None)


def is_called(delegate: Delegate, log_name: str) -> bool:
    """Return True if a log means a delegate by a name. An unknown one may be any vendor's."""
    is_vendors = delegate.name in ("external:", "npu") and kind_of(log_name) is None
    return is_named(log_name, delegate.log_names) or is_vendors


def is_cpu(name: str) -> bool:
    """Return True if a stored request is for the CPU; a name that nothing here knows, such as a typo, is not."""
    delegate = DELEGATES.get(name)
    return delegate is not None and delegate.is_cpu


def flags_for(name: str) -> list[tuple[str, str]]:
    """Return the interpreter tool's flags for a requested delegate, its accelerator's name filled in."""
    accelerator = name.partition(":")[2]
    return [(flag, value.format(accelerator=accelerator)) for flag, value in find_delegate(name).flags]


CACHE_FLAGS = frozenset(flag for delegate in DELEGATES.values() for flag, _ in delegate.cache_flags)
"""Names of all flags that let a delegate keep a cache."""
