"""Emulators of the Android SDK: what they print is parsed, how they boot is waited for, and how they end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices.adb.discovery import open_device
from harness.devices.adb.emulator import (
    emulator_program,
    parse_avd_names,
    parse_cause,
    running_emulators,
    start_emulator,
    stop_emulator,
)
from harness.errors import MissingPrerequisiteError, UsageError

RECORDED = Path(__file__).parent / "data"
STAND_IN = Path(__file__).parent / "stand_in_emulator.py"


def recorded(name):
    return (RECORDED / name).read_text()


# -- what it prints --


def test_names_are_told_from_messages():
    assert parse_avd_names(recorded("list_avds_34.1.19.txt")) == [
        "Pixel_3a_API_31",
        "Pixel_5_API_31",
        "Pixel_6a_API_31",
        "Pixel_7a_API_34",
        "Pixel_8_Pro_API_31",
        "beePhone",
    ]
    assert parse_avd_names(recorded("list_avds_old.txt")) == ["Pixel_XL_API_29", "Pixel_XL_API_33"]


@given(st.text())
def test_no_name_holds_what_the_emulator_would_take_for_two(text):
    assert not any(set(name) & set(" |:\n\t") for name in parse_avd_names(text))


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        ("no_acceleration_34.1.20.txt", "x86_64 emulation currently requires hardware acceleration!"),
        (
            "broken_system_path_30.3.5.txt",
            "Broken AVD system path. Check your ANDROID_SDK_ROOT value "
            r"[C:\Users\user\android-toolchain\sdk]!",
        ),
        ("unknown_avd.txt", "Unknown AVD name [Nexus], use -list-avds to see valid list."),
        (
            "same_avd_26.1.3.txt",
            "There's another emulator instance running with the current AVD 'Nexus5API25'. Exiting...",
        ),
    ],
)
def test_the_cause_is_found_in_its_log(file, cause):
    assert parse_cause(recorded(file)) == cause


def test_a_log_without_an_error_ends_with_its_last_line():
    assert parse_cause("INFO    | a\n\nSegmentation fault\n") == "Segmentation fault"
    assert parse_cause("") == ""


# -- where it is --


def make_sdk(folder):
    program = folder / "emulator" / "emulator"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def sdk(tmp_path, monkeypatch):
    program = make_sdk(tmp_path / "sdk")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    return program


def test_the_sdk_is_found_by_its_variables(sdk, tmp_path, monkeypatch):
    other = make_sdk(tmp_path / "other")
    assert emulator_program() == sdk
    monkeypatch.delenv("ANDROID_HOME")
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(tmp_path / "other"))
    assert emulator_program() == other


def test_without_an_sdk_it_is_said_what_to_do(tmp_path, monkeypatch):
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingPrerequisiteError) as caught:
        start_emulator("Pixel_8")
    assert "ANDROID_HOME" in caught.value.advice


# -- how it boots: the stand-in's Android is a virtual phone, the adb server is real --


@pytest.mark.virtual_phone
def test_it_is_waited_for_until_android_has_booted(sdk, phone_ready, adb):
    told = []
    emulator = start_emulator("Pixel_7a_API_34", timeout_s=120, report=told.append)
    try:
        assert open_device(emulator.serial).run(["getprop", "sys.boot_completed"], timeout_s=20).stdout.strip() == "1"
        assert running_emulators() == [emulator]
        assert emulator.serial in told[0]
        with pytest.raises(UsageError, match="runs already"):
            start_emulator("Pixel_7a_API_34")
    finally:
        stop_emulator(emulator)
    assert running_emulators() == []


@pytest.mark.virtual_phone
def test_one_that_does_not_boot_is_stopped(sdk, phone_ready, adb):
    with pytest.raises(MissingPrerequisiteError, match="did not boot on the emulator Never_Boots within 4 s"):
        start_emulator("Never_Boots", timeout_s=4)
    assert running_emulators() == []


@pytest.mark.virtual_phone
def test_one_that_ends_says_why(sdk, adb):
    with pytest.raises(MissingPrerequisiteError, match="requires hardware acceleration!"):
        start_emulator("No_Acceleration", timeout_s=60)
    assert running_emulators() == []


def test_an_unknown_device_is_refused_with_the_known_ones(sdk):
    with pytest.raises(UsageError) as caught:
        start_emulator("Pixel_99")
    assert "beePhone" in caught.value.advice


def harness(*arguments):
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", "phone", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.virtual_phone
def test_the_command_starts_lists_and_stops_one(sdk, phone_ready, adb):
    started = harness("start", "--avd", "beePhone", "--json")
    assert started.returncode == 0, started.stderr
    serial = json.loads(started.stdout)["serial"]
    assert json.loads(harness("list", "--json").stdout)["emulators"] == [{"name": "beePhone", "serial": serial}]
    assert "emulator" in harness("list").stdout
    assert harness("stop", "beePhone").stdout == "Stopped: beePhone.\n"
    assert json.loads(harness("list", "--json").stdout)["emulators"] == []


def test_options_of_a_virtual_phone_are_refused(sdk):
    refused = harness("start", "desk", "--avd", "beePhone", "--like", "pixel-8")
    assert refused.returncode == 2
    assert "no --like, NAME" in refused.stderr
