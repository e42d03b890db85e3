"""The program as a whole: light, clear, and the same for people and machines."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from harness.cli.main import VERBS

LIGHT = [
    ["--help"],
    ["--version"],
    *([verb, "--help"] for verb in VERBS),
    ["devices"],
    ["doctor"],
    ["recipes"],
    ["tools", "list"],
    ["tools", "fetch"],
    ["phone", "list"],
    ["results", "list"],
    ["sweep", "--dry-run"],
]
HEAVY = ("tensorflow", "keras", "torch")
PROBE = """
import sys
from harness.cli.main import main
sys.argv = ["harness", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
print("HEAVY:" + ",".join(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_what_neither_trains_nor_converts_does_not_import_tensorflow(arguments, tmp_path):
    program = PROBE.format(arguments=arguments, heavy=HEAVY)
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "ANDROID_ADB_SERVER_PORT": os.environ["ANDROID_ADB_SERVER_PORT"]},
    )
    assert finished.stderr.rstrip().splitlines()[-1] == "HEAVY:", finished.stderr


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_shows_an_example(harness_cli, verb):
    finished = harness_cli(verb, "--help")
    assert finished.returncode == 0
    assert "Example: " in finished.stdout


def test_help_lists_every_verb_with_what_it_does(harness_cli):
    finished = harness_cli("--help")
    for verb in VERBS:
        assert re.search(rf"{verb}\s+\w+", finished.stdout)


@pytest.mark.parametrize("arguments", [["nosuch"], ["sweep", "--nosuch"], ["parse-log"], ["sweep", "--threads", "x"]])
def test_bad_usage_is_exit_code_2(harness_cli, arguments):
    finished = harness_cli(*arguments)
    assert finished.returncode == 2
    assert finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "arguments", [["tools", "list"], ["phone", "list"], ["recipes"], ["sweep", "--dry-run"], ["doctor"]]
)
def test_json_has_a_schema_version_and_nothing_else_on_stdout(harness_cli, arguments):
    assert json.loads(harness_cli(*arguments, "--json").stdout)["schema_version"] == 1


def test_parse_log_speaks_both_languages(harness_cli, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(
        "INFO: STARTING!\nInference timings in us: Init: 10, First inference: 20, Inference (avg): 1.5e+06\n"
    )
    run = json.loads(harness_cli("parse-log", str(log), "--json").stdout)["runs"][0]
    assert run["inference_avg_us"] == 1.5e6
    assert "1,500.000 ms" in harness_cli("parse-log", str(log)).stdout
    missing = harness_cli("parse-log", str(tmp_path / "nosuch"))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "cannot be read: No such file or directory." in missing.stderr
    log.write_text("ERROR: Benchmarking failed.\n")
    assert harness_cli("parse-log", str(log)).returncode == 1


def test_a_dry_run_names_what_it_would_do_and_does_nothing(harness_cli, tmp_path):
    finished = harness_cli("sweep", "--dry-run", "--device", "host", "--recipe", "int8", "--delegate", "gpu")
    assert finished.returncode == 0
    assert re.search(r"host\s+│ int8\s+│ gpu", finished.stdout)
    assert "Nothing was run" in finished.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recipe", "int9"], "There is no recipe 'int9'."),
        (["--delegate", "tpu"], "Unknown delegate 'tpu'."),
        (["--model", "nosuch"], "nosuch"),
        (["--invocations", "2"], "key 'measurement.invocations': found 2"),
        (["--fail-on", "x"], "Invalid value 'x' for --fail-on."),
        (["--preset", "fast"], "key 'preset': found 'fast'"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_runs(harness_cli, tmp_path, arguments, sentence):
    finished = harness_cli("sweep", "--dry-run", *arguments)
    assert finished.returncode == 2
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_has_its_own_exit_code(tmp_path):
    program = "import time\nimport typer\nfrom harness.cli import main\nmain.VERBS['doctor'] = 'slow'\n"
    slow = "import typer, time\napp = typer.Typer()\n@app.command()\n"
    slow += "def slow():\n    print('up', flush=True)\n    time.sleep(60)\n"
    (tmp_path / "slow.py").write_text(slow)
    (tmp_path / "go.py").write_text(program + "import sys\nsys.argv = ['harness', 'doctor']\nmain.main()\n")
    with subprocess.Popen(
        [sys.executable, "go.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"up\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 4
    assert b"Interrupted." in stderr
