"""Find the profile of a device by its facts; write one for a device that has none."""

from __future__ import annotations

import glob
import re
from fnmatch import fnmatchcase
from pathlib import Path

from harness.devices.device import DeviceFacts
from harness.paths import shipped
from harness.spec.loading import load_spec
from harness.spec.profile import DeviceProfile, ProfileMatch

GENERIC = "generic"


def load_profiles(folder: Path | None = None) -> list[DeviceProfile]:
    """Read all profiles of a folder, by default the shipped one. Raises `UsageError`."""
    return [load_spec(file, DeviceProfile) for file in sorted((folder or shipped("device_profiles")).glob("*.toml"))]


def match_profile(facts: DeviceFacts, profiles: list[DeviceProfile] | None = None) -> DeviceProfile:
    """Return the profile that fits a device best; a profile without conditions fits every device."""
    fitting = [profile for profile in profiles or load_profiles() if _fits(profile.match, facts)]
    return max(fitting, key=lambda profile: len(_wanted(profile.match)), default=DeviceProfile(name=GENERIC))


def profile_file_name(facts: DeviceFacts) -> str:
    """Return a file name for a device's own profile, of harmless characters only."""
    return f"{_profile_name(facts)}.toml"


def _profile_name(facts: DeviceFacts) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", (facts.model or facts.serial).lower())) or "phone"


def profile_text(facts: DeviceFacts) -> str:
    """Return a profile made from a device's facts, as TOML text."""
    import tomli_w

    generic = match_profile(facts)
    match = {key: glob.escape(value) for key in ("maker", "model", "soc") if (value := getattr(facts, key))}
    frequencies = sorted({core.max_frequency_khz for core in facts.cores if core.max_frequency_khz})
    values = {
        "name": _profile_name(facts),
        "summary": f"{facts.title}, {len(facts.cores)} cores at most {[khz // 1000 for khz in frequencies]} MHz",
        "delegates": list(generic.delegates),
        "cores": generic.cores if isinstance(generic.cores, str) else list(generic.cores),
        "thermal_limit_c": generic.thermal_limit_c,
        "thermal_wait_s": generic.thermal_wait_s,
        "match": match,
    }
    return tomli_w.dumps(values)


def _wanted(match: ProfileMatch) -> dict[str, str]:
    return match.model_dump(exclude_none=True)


def _fits(match: ProfileMatch, facts: DeviceFacts) -> bool:
    return all(
        fnmatchcase(str(getattr(facts, key) or "").lower(), pattern.lower()) for key, pattern in _wanted(match).items()
    )
