"""Everything is checked before anything is made or stored, and no stored spec breaks reading."""

import pytest
from results_examples import SWEEP, accuracy_outcome, begin, cell, facts, measure, tool

import harness
from harness.analysis.history.nights import read_nights
from harness.benchmark.registry import TOOLS_VARIABLE, ToolRegistry
from harness.devices.device import DeviceKind
from harness.errors import DeviceError, FailureClass, MissingPrerequisiteError, UsageError
from harness.progress import SilentObserver
from harness.spec.sweep import load_sweep_spec
from harness.store.store import Store
from harness.sweep.preflight import check_model, check_sweep
from harness.sweep.targets import DeviceCheck, Targets


class Source:
    """Devices by name, each with its problem or none."""

    def __init__(self, problems):
        self.problems = problems

    def targets(self, asked):
        return Targets(tuple(asked) or tuple(self.problems))

    def check(self, names, registry):
        return [DeviceCheck(name, ("cpu",), self.problems[name]) for name in names]


class Notebook(SilentObserver):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def check(problems, observer=None, **spec):
    return check_sweep(load_sweep_spec(None, spec), Source(problems), observer or SilentObserver())


GONE = MissingPrerequisiteError("R58M is not attached.", "Plug it in.")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"delegates": ["gpuu"]}, "Unknown delegate 'gpuu'"),
        ({"recipes": ["fp33"]}, "There is no recipe 'fp33'"),
        ({"model": "nosuch"}, "There is no model 'nosuch'"),
    ],
)
def test_a_typo_in_the_spec_is_found_first(spec, sentence):
    with pytest.raises(UsageError, match=sentence):
        check({"host": None}, **spec)


def test_without_a_usable_device_there_is_no_sweep():
    with pytest.raises(MissingPrerequisiteError, match="R58M is not attached") as caught:
        check({"R58M": GONE})
    assert caught.value.advice == "Plug it in."


def test_a_sweep_goes_on_with_the_usable_devices():
    observer = Notebook()
    checked = check({"R58M": GONE, "host": None}, observer)
    assert observer.warnings == ["R58M is not attached. Plug it in."]
    assert checked.names == ("R58M", "host")
    assert checked.delegates == {"host": ("cpu",)}


def test_a_cache_that_cannot_be_written_is_no_fault(monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", "/proc/nosuch")
    with pytest.raises(UsageError, match="Cannot write to the cache folder /proc/nosuch") as caught:
        check({"host": None})
    assert "HARNESS_CACHE" in caught.value.advice


@pytest.mark.parametrize("name", ["text.tflite", "text.keras", "text.h5", "empty.tflite"])
def test_a_file_that_is_no_model_is_found_first(name, tmp_path):
    from harness.spec.model import find_model

    (tmp_path / name).write_bytes(b"" if "empty" in name else b"<html>not found</html>")
    with pytest.raises(MissingPrerequisiteError, match=name):
        check_model(find_model(str(tmp_path / name)))


def test_an_unknown_serial_stores_nothing(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="nosuch is not attached; attached: "):
        harness.sweep(devices=["nosuch"], recipes=["fp32"], results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_missing_tool_is_its_own_class(tmp_path):
    with pytest.raises(DeviceError) as caught:
        ToolRegistry(tmp_path).choose(facts(kind=DeviceKind.VIRTUAL))
    assert caught.value.failure.failure_class is FailureClass.TOOL_MISSING
    assert TOOLS_VARIABLE in caught.value.advice


def test_the_variable_names_tools_that_exist(tmp_path, monkeypatch):
    monkeypatch.setenv(TOOLS_VARIABLE, str(tmp_path / "nosuch"))
    with pytest.raises(UsageError, match=f"Cannot find the tools in {TOOLS_VARIABLE}"):
        ToolRegistry(tmp_path).tools()


@pytest.mark.official_tool
def test_the_tools_of_the_variable_are_registered_once(tmp_path, official_tools, monkeypatch):
    monkeypatch.setenv(TOOLS_VARIABLE, str(official_tools))
    told = []
    registry = ToolRegistry(tmp_path, report=told.append)
    assert len(registry.tools()) == len(registry.tools()) == 2
    assert len(told) == 1


def test_no_stored_delegate_breaks_reading(tmp_path, monkeypatch):
    with Store.open(tmp_path) as store:
        begin(store, variants=("int8",))
        store.add_tool(SWEEP, tool())
        measure(store, cell(delegate="gpuu"), [100.0] * 5, outcome=accuracy_outcome())
        assert read_nights(store)
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path))
    (row,) = harness.load_results(sweep="all").to_dict("records")
    assert row["delegate_requested"] == "gpuu"
    harness.report("latest", tmp_path / "report.html")
