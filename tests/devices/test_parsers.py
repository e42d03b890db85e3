"""Every parser on every recorded output of a real phone, and on noise."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_phones import outputs, phones

from harness.devices.adb.discovery import ConnectionState
from harness.devices.android_output import parse_battery, parse_properties, parse_screen_on, parse_thermal
from harness.devices.cores import as_mask, choose_cores, parse_core_list, parse_cpuinfo
from harness.devices.facts import facts_from_output, facts_from_properties
from harness.devices.state.telemetry import parse_telemetry, parse_zones
from harness.files import decode_saved

KINDS = ("getprop", "/system/build.prop", "/proc/cpuinfo", "dumpsys battery", "adb devices")
OF_KIND = {kind: sorted(n for n, (_, facts) in outputs().items() if facts["kind"].startswith(kind)) for kind in KINDS}
OF_KIND["dumpsys battery"] = [n for n in OF_KIND["dumpsys battery"] if outputs()[n][1]["kind"] == "dumpsys battery"]


def test_every_recorded_file_is_here():
    assert len(outputs()) == 29
    assert len(phones()) == 12


@pytest.mark.parametrize("number", OF_KIND["getprop"] + OF_KIND["/system/build.prop"])
def test_properties(number):
    data, record = outputs()[number]
    properties = parse_properties(decode_saved(data))
    for key, value in record["facts"].items():
        if key.startswith("ro."):
            assert properties.get(key) == value, key


def test_a_value_over_several_lines_is_one_property():
    data, _ = outputs()["001"]
    history = parse_properties(decode_saved(data))["persist.sys.boot.reason.history"]
    assert history.startswith("reboot,,1745935181\n")
    assert "[" not in history


def test_utf16_of_powershell():
    data, record = outputs()["005"]
    assert data.startswith(b"\xff\xfe")
    facts = facts_from_properties("S", parse_properties(decode_saved(data)))
    assert (facts.model, facts.soc, facts.api_level) == ("SM-S936B", "SM8750", 36)
    assert facts.fingerprint == record["facts"]["ro.build.fingerprint"]


def test_android_4_has_no_list_of_abis():
    data, _ = outputs()["004"]
    facts = facts_from_properties("S", parse_properties(decode_saved(data)))
    assert facts.abis[0] == "armeabi-v7a"
    assert facts.api_level == 19


@pytest.mark.parametrize("number", OF_KIND["/proc/cpuinfo"])
def test_cpuinfo(number):
    data, record = outputs()[number]
    cpuinfo, expected = parse_cpuinfo(data.decode()), record["facts"]
    assert len(cpuinfo.processors) == expected["processor_blocks"]
    assert cpuinfo.hardware == expected.get("hardware")
    assert list(cpuinfo.parts) == (expected.get("cpu_parts") or [])


@pytest.mark.parametrize("number", OF_KIND["dumpsys battery"])
def test_battery(number):
    data, record = outputs()[number]
    battery, expected = parse_battery(decode_saved(data)), record["facts"]
    assert battery.level_percent == expected["level"]
    assert battery.temperature_c == expected["temperature_tenths_c"] / 10
    assert battery.status == expected["status"]


def test_thermal_service_without_the_sentinel():
    thermal = parse_thermal(decode_saved(outputs()["020"][0]))
    assert thermal.status == 0
    assert max(thermal.temperatures_c.values()) == 25.3
    assert "TYPE_POWER_AMPLIFIER" not in thermal.temperatures_c


def listed(text):
    """Return the serials and states of an `adb devices` output: blanks or tabs, headers, daemon messages."""
    states = "|".join(re.escape(state.value) for state in ConnectionState)
    row = re.compile(rf"^(?P<serial>\S+)\s+(?P<state>{states}|host|authorizing|connecting|rescue)\b")
    noise = ("*", "$", "#", "adb", "error")
    lines = [line.strip() for line in text.replace("List of devices attached", "\n").splitlines()]
    return [match.groups() for line in lines if not line.startswith(noise) and (match := row.match(line))]


@pytest.mark.parametrize("number", OF_KIND["adb devices"])
def test_adb_devices(number):
    data, record = outputs()[number]
    found, expected = listed(decode_saved(data)), record["facts"]
    if "devices" in expected:
        assert len(found) == expected["devices"]
        return
    states = expected.get("states") or [expected["state"]]
    assert [ConnectionState.parse(state).value for _, state in found] == states
    assert {serial for serial, _ in found} == {expected["serial"]}


def test_an_unusable_state_says_what_to_do():
    for state in ConnectionState:
        assert bool(state.advice) is (state is not ConnectionState.DEVICE)


# -- the twelve phones --


def facts_of(name):
    """Return the facts of a recorded phone as the facts script would print them."""
    record = phones()[name]
    files = record["files"]
    frequencies = [f"{path}:{text.strip()}" for path, text in files.items() if path.endswith("cpuinfo_max_freq")]
    sections = {
        "properties": "\n".join(f"[{key}]: [{value}]" for key, value in record["properties"].items()),
        "cpuinfo": files["/proc/cpuinfo"],
        "possible": files.get("/sys/devices/system/cpu/possible") or files.get("/sys/devices/system/cpu/present", ""),
        "frequencies": "\n".join(frequencies),
    }
    return facts_from_output("S", "\n".join(f"@@harness:{title}\n{body}\n" for title, body in sections.items()))


@pytest.mark.parametrize("name", sorted(phones()))
def test_promise_h19_a_recorded_phone_tells_its_system(name):
    properties, facts = phones()[name]["properties"], facts_of(name)
    assert facts.fingerprint == properties["ro.build.fingerprint"]
    assert facts.android_version == properties["ro.build.version.release"]


@pytest.mark.parametrize("name", sorted(phones()))
def test_facts_of_a_recorded_phone(name):
    properties, facts = phones()[name]["properties"], facts_of(name)
    assert facts.model == properties["ro.product.model"]
    assert facts.maker == properties["ro.product.manufacturer"]
    assert facts.abis
    assert facts.soc or facts.board
    assert facts.kind == "phone"
    possible = phones()[name]["files"].get("/sys/devices/system/cpu/possible")
    if possible:
        assert [core.index for core in facts.cores] == list(parse_core_list(possible))


def test_promise_h19_the_version_of_the_gpu_driver_is_the_compositors_word():
    said = "GLES: Qualcomm, Adreno (TM) 660, OpenGL ES 3.2 V@0530.31"
    assert facts_from_output("S", f"@@harness:gpu_driver\n  {said}\n").gpu_driver == said.removeprefix("GLES: ")
    assert facts_from_output("S", "@@harness:gpu_driver\n\n").gpu_driver is None


@pytest.mark.parametrize("name", sorted(phones()))
def test_the_mask_holds_equal_fast_cores(name):
    facts = facts_of(name)
    chosen = choose_cores(facts.cores)
    speeds = {core.max_frequency_khz for core in facts.cores if core.index in chosen}
    assert chosen
    assert len(speeds) == 1
    slowest = min(core.max_frequency_khz or 0 for core in facts.cores)
    assert (speeds.pop() or 0) >= slowest


def test_the_big_cores_of_a_pixel_8_are_not_its_lone_prime_core():
    chosen = choose_cores(facts_of("pixel-8").cores)
    assert chosen == (4, 5, 6, 7)
    assert as_mask(chosen) == "f0"


def test_hot_unplugged_cores_are_counted():
    record = phones()["meizu-pro-7-plus"]
    assert len(parse_cpuinfo(record["files"]["/proc/cpuinfo"]).processors) < len(facts_of("meizu-pro-7-plus").cores)


# -- small ones --


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3\n", (0, 1, 2, 3)), ("0,2-3", (0, 2, 3)), ("", ()), ("x", ()), ("0-99999999", tuple(range(1025)))],
)
def test_core_lists(text, cores):
    assert parse_core_list(text) == cores


def test_zones_in_thousandths_and_whole_degrees_without_nonsense():
    text = (
        "/sys/class/thermal/thermal_zone0/type:cpu\n/sys/class/thermal/thermal_zone0/temp:41500\n"
        "/sys/class/thermal/thermal_zone1/type:old\n/sys/class/thermal/thermal_zone1/temp:37\n"
        "/sys/class/thermal/thermal_zone2/type:bad\n/sys/class/thermal/thermal_zone2/temp:-273000\n"
    )
    assert parse_zones(text) == {"zone:cpu": 41.5, "zone:old": 37.0}


@pytest.mark.parametrize(
    ("text", "on"),
    [("  mWakefulness=Awake\n", True), ("mWakefulness=Asleep", False), ("Display Power: state=ON", True), ("", None)],
)
def test_screen(text, on):
    assert parse_screen_on(text) is on


@given(st.text())
def test_noise_never_raises(text):
    parse_properties(text)
    parse_cpuinfo(text)
    parse_core_list(text)
    parse_battery(text)
    parse_thermal(text)
    ConnectionState.parse(text)
    parse_telemetry(text)
    json.dumps(parse_telemetry(text).as_dict())
    facts_from_output("S", text)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z.]{0,20}", fullmatch=True), st.text(st.characters(exclude_categories=["C"]))
    )
)
def test_properties_come_back_as_printed(properties):
    safe = {key: value.replace("]", ")") for key, value in properties.items()}
    text = "\n".join(f"[{key}]: [{value}]" for key, value in safe.items())
    expected = {key: value for key, value in safe.items() if len(value.splitlines()) <= 1}
    parsed = parse_properties(text)
    assert {key: parsed.get(key) for key in expected} == expected
