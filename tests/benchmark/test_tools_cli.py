"""`harness tools` and `harness parse-log` as a user runs them."""

import json
import subprocess
import sys

import pytest
from recorded_logs import real_logs, situations

from harness.errors import ExitCode


@pytest.fixture
def cli(harness_cli, tmp_path):
    """Run harness with a cache of the test's own."""

    def run(*arguments, **options):
        return harness_cli(*map(str, arguments), HARNESS_CACHE=str(tmp_path / "cache"), **options)

    return run


@pytest.fixture
def saved_log(tmp_path):
    def save(data, name="a log $(id).txt"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return save


# -- parse-log --


def test_a_log_as_json(cli, saved_log):
    data, facts = real_logs()["040"]
    done = cli("parse-log", saved_log(data), "--requested", "gpu", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == ExitCode.OK
    assert document["schema_version"] == 1
    (run,) = document["runs"]
    assert run["ok"] is True
    assert run["inference_avg_us"] == facts["inference_avg_us"]
    assert run["run_stats"] == facts["run_stats"]
    assert run["fell_back"] is facts["fell_back"]


def test_a_log_for_people(cli, saved_log):
    data, facts = real_logs()["040"]
    done = cli("parse-log", saved_log(data))
    assert done.returncode == ExitCode.OK
    assert "inference, mean" in done.stdout
    assert f"{facts['inference_avg_us'] / 1000:,.3f} ms" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 160


def test_several_runs_give_a_list(cli, saved_log):
    identity = next(name for name, (_, facts) in sorted(real_logs().items()) if "runs" in facts)
    data, facts = real_logs()[identity]
    runs = json.loads(cli("parse-log", saved_log(data), "--json").stdout)["runs"]
    assert len(runs) == len(facts["runs"])


def test_standard_input(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "parse-log", "-", "--json"],
        input=situations()["nnapi"]["out"].encode(),
        capture_output=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == ExitCode.OK
    assert json.loads(done.stdout)["runs"][0]["inference_avg_us"] > 0


def test_a_failed_run_is_told_by_the_exit_code_too(cli, saved_log):
    situation = situations()["err_custom"]
    done = cli("parse-log", saved_log((situation["out"] + situation["err"]).encode()), "--json")
    assert done.returncode == ExitCode.CELL_FAILED
    assert json.loads(done.stdout)["runs"][0]["error_class"] == "unsupported_op"


@pytest.mark.parametrize("data", [b"", b"\0\xff\xfe\x80" * 999, b"[bold]not a log[/]\n"])
def test_what_is_no_log_is_no_measurement(cli, saved_log, data):
    done = cli("parse-log", saved_log(data))
    assert done.returncode == ExitCode.CELL_FAILED
    assert "tool_output_unreadable" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("parse-log", "no such file"), "cannot be read"),
        (("parse-log", "."), "cannot be read"),
        (("parse-log", ".", "--requested", "tpu"), "Unknown delegate 'tpu'"),
        (("tools", "add", "no such file"), "no such file"),
        (("tools", "add", "."), "not a bundle"),
        (("tools", "add", "/etc/passwd"), "no ELF header"),
        (("tools", "add", "/etc/passwd", "--family", "x"), "--family"),
        (("tools", "fetch", "android-mips"), "android-mips"),
        (("tools", "probe", "abc"), "No tool is called"),
        (("tools", "remove", "abc"), "No tool is called"),
    ],
)
def test_bad_usage_is_one_sentence_and_what_to_do(cli, arguments, said):
    done = cli(*arguments)
    assert done.returncode == ExitCode.BAD_USAGE
    assert said in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 2


# -- tools --


def test_no_tools_says_how_to_get_one(cli):
    done = cli("tools", "list")
    assert done.returncode == ExitCode.OK
    assert "harness tools fetch" in done.stdout
    assert json.loads(cli("tools", "list", "--json").stdout)["tools"] == []


def test_what_can_be_fetched(cli):
    downloads = json.loads(cli("tools", "fetch", "--json").stdout)["downloads"]
    assert {download["family"] for download in downloads} == {"interpreter", "compiled-model"}
    assert all(download["url"].startswith("https://") for download in downloads)
    assert "android-arm64" in cli("tools", "fetch").stdout


def test_no_network_is_told(cli):
    nowhere = "http://127.0.0.1:9"  # a proxy that is not there: nothing leaves this machine
    done = cli("tools", "fetch", "android-arm64", https_proxy=nowhere, HTTPS_PROXY=nowhere, no_proxy="", NO_PROXY="")
    assert done.returncode == ExitCode.NOTHING_TO_RUN_ON
    assert "cannot be downloaded" in done.stderr
    assert "tools add" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.official_tool
def test_add_list_probe_remove(cli, official_tools):
    added = json.loads(cli("tools", "add", official_tools, "--json").stdout)["tools"]
    hashes = {tool["system"]: tool["sha256"] for tool in added}
    ambiguous = cli("tools", "probe", "benchmark_model_verbose")
    assert ambiguous.returncode == ExitCode.BAD_USAGE
    assert hashes["linux"][:12] in ambiguous.stderr
    elsewhere = cli("tools", "probe", hashes["virtual-phone"])
    assert elsewhere.returncode == ExitCode.BAD_USAGE
    assert "--device" in elsewhere.stderr
    probed = cli("tools", "probe", hashes["linux"][:10], "--json")
    flags = json.loads(probed.stdout)["flags"]
    assert "use_gpu" in flags
    listed = {tool["sha256"]: tool for tool in json.loads(cli("tools", "list", "--json").stdout)["tools"]}
    assert sorted(listed[hashes["linux"]]["flags"]) == flags
    assert listed[hashes["virtual-phone"]]["flags"] is None
    table = cli("tools", "list", COLUMNS="80").stdout
    assert max(map(len, table.splitlines())) <= 80
    assert "not probed" in table
    assert cli("tools", "remove", hashes["linux"]).returncode == ExitCode.OK
    assert len(json.loads(cli("tools", "list", "--json").stdout)["tools"]) == 1


@pytest.mark.parametrize("verb", ["add", "fetch", "list", "probe", "remove"])
def test_help_shows_an_example(cli, verb):
    assert f"Example: harness tools {verb}" in cli("tools", verb, "--help").stdout


def test_help_of_parse_log_shows_an_example(cli):
    assert "Example: " in cli("parse-log", "--help").stdout
