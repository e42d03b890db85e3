"""What all verbs share: help, suggestions, options that are given twice, JSON errors, completion."""

import json
import re

import pytest

from harness.cli.completion import complete_devices, complete_models, complete_recipes, complete_sweeps
from harness.cli.main import VERBS
from harness.cli.options import split_commas, thread_counts
from harness.compression.recipes import builtin_recipes
from harness.errors import UsageError
from harness.spec.sweep import PRESETS, SweepSpec, load_sweep_spec


@pytest.mark.parametrize("verb", ["sweep", "bench", "nightly", "evaluate"])
def test_help_cuts_no_name_at_80_columns(harness_cli, verb):
    shown = harness_cli(verb, "--help", COLUMNS="80").stdout
    assert "…" not in shown
    assert "list[" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_help_of_sweep_tells_the_defaults(harness_cli):
    shown = " ".join(harness_cli("sweep", "--help").stdout.split()).replace("fashion- dscnn", "fashion-dscnn")
    spec = load_sweep_spec(None, {})
    told = [spec.model, ", ".join(spec.recipes), spec.preset, str(spec.threads[0]), str(spec.seed)]
    told += [f"{spec.measurement.timeout_s:g}"]
    for name in ("invocations", "runs", "accuracy_samples"):
        quick, standard, strict = (str(PRESETS[preset][name]) for preset in ("quick", "standard", "strict"))
        told.append(f"{quick}, {standard} or {strict}")
    defaults = re.findall(r"\[default: (.*?)\]", shown)
    assert [one for one in told if one not in defaults] == []
    for group in ("What:", "Where:", "How exactly:", "Results and output:"):
        assert group in shown


def test_a_mistyped_verb_is_suggested(harness_cli):
    finished = harness_cli("swep")
    assert finished.returncode == 2
    assert "Did you mean 'sweep'?" in finished.stderr


def test_one_value_is_not_given_twice(harness_cli):
    finished = harness_cli("sweep", "--model", "a", "--model", "b", "--dry-run")
    assert finished.returncode == 2
    assert "--model is given 2 times." in finished.stderr


@pytest.mark.parametrize("place", [("-v", "results", "list"), ("results", "list", "-v"), ("results", "-vv", "list")])
def test_the_log_is_asked_for_anywhere(harness_cli, place):
    finished = harness_cli(*place)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("results", "show", "nosuch", "--json"), 3, "There are no results"),
        (("compare", "--format", "json"), 3, "There are no results"),
        (("sweep", "--nosuch", "--json"), 2, "No such option"),
        (("nosuch", "--json"), 2, "No such command"),
        (("sweep", "--delegate", "gpuu", "--json"), 2, "Unknown delegate 'gpuu'"),
    ],
)
def test_an_error_is_json_if_json_was_asked_for(harness_cli, arguments, exit_code, message, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path / "none"))
    finished = harness_cli(*arguments)
    assert finished.returncode == exit_code
    error = json.loads(finished.stdout)["error"]
    assert message in error["message"]
    assert error["exit_code"] == exit_code
    assert message in finished.stderr


def test_commas_separate_values_but_not_parts_of_files(tmp_path):
    file = tmp_path / "a,b.toml"
    file.touch()
    assert split_commas(["int8,fp32", "fp16"]) == ["int8", "fp32", "fp16"]
    assert split_commas(["fp32, fp16 ,", " int8"]) == ["fp32", "fp16", "int8"]
    assert split_commas([str(file), "external:/lib/a,b.so"]) == [str(file), "external:/lib/a,b.so"]
    assert split_commas(None) is None


def test_threads_are_counts_with_or_without_commas():
    assert thread_counts(split_commas(["1,4", "2"])) == [1, 4, 2]
    assert thread_counts(None) is None
    for wrong in ("two", "1.5", "-1", "1 2"):
        with pytest.raises(UsageError, match=f"Invalid value '{wrong}' for --threads"):
            thread_counts([wrong])


def test_completion_knows_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path))
    assert complete_recipes("") == list(builtin_recipes())
    assert complete_recipes("int8-i") == ["int8-io"]
    assert SweepSpec.model_fields["model"].default in complete_models("")
    assert "virtual:pixel-8" in complete_devices("virt")
    assert complete_sweeps("l") == ["latest"]


def test_the_shell_completes_verbs_and_recipes(harness_cli):
    def complete(words, at):
        asked = {"_PYTHON _M HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return harness_cli(**asked).stdout.split()

    assert complete("harness re", 1) == [verb for verb in VERBS if verb.startswith("re")]
    assert complete("harness sweep --recipe prune80-s", 3) == ["prune80-sparse"]
