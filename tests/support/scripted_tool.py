"""A stand-in for the official tool that the console program runs on virtual phones: fast, and it counts itself."""

from scripted_sweep import FLAGS, LOG, RUNS, SECONDS, script_tool

from harness.benchmark.registry import ToolRegistry

SHORT = """
[measurement]
invocations = 5
runs = 10
memory_invocations = 0
init_pairs = 0
warmup_max_s = 0
accuracy_samples = 0
"""
"""The measurement part of a spec: latency alone."""
COUNT = "/data/processes"
"""A file on the phone with one line a process."""


def register_scripted_tool(folder, while_it_runs=""):
    """Make a tool of shell code and register it alone; other code has another SHA-256."""
    forget_tools()
    registry = ToolRegistry()
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "benchmark_model"
    log = LOG.format(runs=RUNS)
    script.write_text(
        f"#!/system/bin/sh\necho process >>{COUNT}\n{while_it_runs}\nsleep {SECONDS}\ncat <<'END'\n{log}END\n"
    )
    tool = script_tool(script, flags=None, vendor_folder=folder)
    return registry.remember_flags(tool, FLAGS.split())


def forget_tools():
    """Remove every tool of the tests' registry, so that the next test finds it empty."""
    registry = ToolRegistry()
    for known in registry.tools():
        registry.remove(known.sha256)
