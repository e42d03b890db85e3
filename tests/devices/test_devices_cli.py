"""`harness devices` and `harness doctor`, and the profiles that devices get."""

import json

import pytest

from harness.devices.device import Core, DeviceFacts, DeviceKind
from harness.devices.profiles import load_profiles, match_profile, profile_text
from harness.errors import UsageError
from harness.spec.loading import load_spec
from harness.spec.profile import DeviceProfile


def facts(**changes):
    values = {"serial": "S", "kind": DeviceKind.PHONE, "maker": "Google", "model": "Pixel 8", "board": "zuma"}
    return DeviceFacts(**(values | changes))


def test_profiles_match_by_facts():
    assert match_profile(facts()).name == "pixel-8"
    assert match_profile(facts(model="Pixel 8 Pro")).name == "generic"
    assert match_profile(facts(maker=None, model=None)).name == "generic"
    assert match_profile(facts(kind=DeviceKind.VIRTUAL)).name == "virtual"
    assert match_profile(facts(kind=DeviceKind.HOST)).name == "host"


def test_the_profile_that_asks_for_most_wins():
    wide = DeviceProfile(name="wide", match={"maker": "google"})
    narrow = DeviceProfile(name="narrow", match={"maker": "GOOGLE", "board": "zum*"})
    assert match_profile(facts(), [wide, narrow]).name == "narrow"
    assert match_profile(facts(board="x"), [wide, narrow]).name == "wide"


def test_every_shipped_profile_names_known_delegates():
    from harness.benchmark.delegates import find_delegate

    for profile in load_profiles():
        for delegate in profile.delegates:
            find_delegate(delegate)


def test_a_written_profile_can_be_read_and_fits_its_phone(tmp_path):
    phone = facts(model='Odd "Name"\n[x]', cores=(Core(0, 1_000_000), Core(1, None)))
    file = tmp_path / "p.toml"
    file.write_text(profile_text(phone))
    profile = load_spec(file, DeviceProfile)
    assert match_profile(facts(model='Odd "Name"\n[x]'), [profile, DeviceProfile(name="g")]).name == profile.name


def test_a_profile_with_nonsense_is_refused(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text('name = "x"\nthermal_limit_c = 500\n')
    with pytest.raises(UsageError, match="thermal_limit_c"):
        load_spec(file, DeviceProfile)


@pytest.mark.virtual_phone
def test_devices_shows_writes_and_cleans(harness_cli, start_phone, tmp_path):
    phone = start_phone(like="galaxy-s9-us")
    shown = harness_cli("devices")
    assert shown.returncode == 0
    for text in (phone.serial, "device", "samsung SM-G960U", "arm64-v8a", "profile: virtual", "labels: virtual phone,"):
        assert text in shown.stdout
    lines = [line.split() for line in harness_cli("devices", COLUMNS="80").stdout.splitlines()]
    assert ["profile:", "virtual"] in lines
    assert max(map(len, shown.stdout.splitlines())) <= 80
    (row,) = [
        row for row in json.loads(harness_cli("devices", "--json").stdout)["devices"] if row["serial"] == phone.serial
    ]
    assert row["profile"] == "virtual"
    assert len(row["facts"]["cores"]) == 8

    written = harness_cli("devices", "--write-profile", phone.serial)
    assert written.returncode == 0, written.stderr
    assert load_spec(tmp_path / "device_profiles" / "sm-g960u.toml", DeviceProfile).match.maker == "samsung"
    again = harness_cli("devices", "--write-profile", phone.serial)
    assert again.returncode == 2
    assert "is there already" in again.stderr

    cleaned = harness_cli("devices", "--clean", phone.serial)
    assert "removed /data/local/tmp/harness" in cleaned.stdout


def test_nothing_attached_is_exit_code_3(harness_cli, adb):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    finished = harness_cli("devices", ANDROID_ADB_SERVER_PORT=str(port))
    import subprocess

    subprocess.run([adb, "-P", str(port), "kill-server"], timeout=20, capture_output=True, check=False)
    assert finished.returncode == 3
    assert "No device is attached" in finished.stderr


def test_doctor_says_what_is_missing_and_how_to_get_it(harness_cli):
    findings = json.loads(harness_cli("doctor", "--json").stdout)["findings"]
    for finding in findings:
        assert finding["ok"] or finding["advice"], finding
    assert {"adb", "virtual phones"} <= {finding["what"] for finding in findings}
