"""What the shell completes after an option or a verb; nothing heavy is loaded, and no error is ever shown."""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import HarnessError


def _fitting(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Return a function that lists the names that begin with what is typed so far."""

    def complete(incomplete: str) -> list[str]:
        try:
            return [name for name in names() if name.startswith(incomplete)]
        except (HarnessError, OSError, ValueError):
            return []

    return complete


def _models() -> list[str]:
    from harness.paths import shipped

    return sorted(path.stem for path in shipped("models").glob("*.toml") if path.stem != "any-tflite")


def _recipes() -> list[str]:
    import tomllib
    from importlib.resources import files

    tables = tomllib.loads(files("harness.compression").joinpath("recipes.toml").read_text(encoding="utf-8"))
    return [table["name"] for table in tables["recipe"]]


def _devices() -> list[str]:
    from harness.devices.adb.discovery import ready_devices
    from harness.virtual_phone.recording import shipped_recordings

    own = ["host", "virtual", *(f"virtual:{name}" for name in shipped_recordings())]
    try:
        return [*ready_devices(), *own]
    except HarnessError:
        return own


def _delegates() -> list[str]:
    from harness.benchmark.delegates import DELEGATES

    return list(DELEGATES)


def _sweeps() -> list[str]:
    from harness.paths import default_results
    from harness.store.listing import list_sweeps

    return ["latest", *(sweep.record.id for sweep in list_sweeps(default_results()))]


complete_models = _fitting(_models)
complete_recipes = _fitting(_recipes)
complete_devices = _fitting(_devices)
complete_delegates = _fitting(_delegates)
complete_sweeps = _fitting(_sweeps)
complete_presets = _fitting(lambda: ["quick", "standard", "strict"])
