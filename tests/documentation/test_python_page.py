"""The page about Python runs as a notebook would: its blocks in one namespace, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python-api.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
CHECKS = """
assert len(made.variants) == 2 and not made.failures
assert set(table["variant"]) == {"fp32", "fp16"} and set(table["verdict"]) == {"ranked"}
assert "<table" in swept._repr_html_() and "<table" in made._repr_html_()
assert len(swept.to_frame("invocations")) >= 10
assert {"advance", "begin", "device", "end"} <= {event.kind.value for event in events}
assert len(compared.to_frame()) == 1 and "<table" in compared._repr_html_()
assert decided.devices[0].headline and page.path.is_file() and page.path.name in page._repr_html_()
assert len(results) == 3 and list(again.columns) == list(results.columns)
assert problem and advice
log = (pathlib.Path(swept.results) / swept.sweep_id / "harness.log").read_text()
assert "host: began" in log
"""


@pytest.mark.training
def test_the_page_runs_in_an_empty_folder_and_prints_nothing(tmp_path):
    program = "\n".join(["import pathlib", *BLOCK.findall(PAGE.read_text()), CHECKS])
    # The page reads all stored sweeps: other tests of this process have stored theirs in the default results.
    environment = {**os.environ, "HARNESS_RESULTS": str(tmp_path / "results")}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_importing_harness_loads_nothing_heavy():
    program = "import sys, harness, harness.api\n"
    program += "print({name.partition('.')[0] for name in sys.modules} & "
    program += "{'tensorflow', 'pandas', 'sqlalchemy', 'numpy', 'rich', 'typer', 'pydantic'})"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"
