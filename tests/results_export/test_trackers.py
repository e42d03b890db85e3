"""What MLflow and TensorBoard themselves read of an export."""

import subprocess
import sys

import pytest
from results_examples import START, SWEEP, accuracy_outcome, add, begin, cell, measure, succeeded

from harness.analysis.summary import summarize
from harness.benchmark.invocation import Pass
from harness.errors import Failure, FailureClass, UsageError
from harness.export.mlflow import export_to_mlflow
from harness.export.tables import choose_columns, summary_frame
from harness.export.tensorboard import export_to_tensorboard
from harness.store.store import Store

STARTED = {SWEEP: START}
HOSTILE = "<script>'; DROP TABLE runs; -- /../../x"


@pytest.fixture
def summary(tmp_path):
    with Store.open(tmp_path / "results") as store:
        begin(store, variants=("int8", HOSTILE))
        measure(store, cell(), [100.0, 101.0, 102.0, 101.5, 100.5], outcome=accuracy_outcome())
        measure(store, cell(HOSTILE), [200.0, 201.0])
        for index, latency_us in enumerate((100.0, 110.0, 130.0)):
            add(store, cell(), index, succeeded(latency_us), purpose=Pass.SUSTAINED)
        store.add_variant_failure(SWEEP, "prune50", Failure(FailureClass.CONVERSION_FAILED, "No."))
        return summary_frame(summarize(store, SWEEP))


def test_mlflow_holds_one_run_a_row(summary, tmp_path):
    import mlflow

    uri = export_to_mlflow(summary, STARTED, str(tmp_path / "runs.db"))
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("harness")
    runs = {run.data.params.get("variant"): run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"int8", HOSTILE, "prune50"}
    run = runs["int8"]
    assert run.data.params | {"profile": "generic"} == {
        "device": "Google Pixel 8",
        "serial": "R58M",
        "profile": "generic",
        "variant": "int8",
        "delegate_requested": "cpu",
        "threads": "1",
    }
    assert run.data.metrics["latency_median_us"] == 101.0
    assert "threads" not in run.data.metrics
    assert run.data.tags["verdict"] == "ranked"
    assert [point.value for point in client.get_metric_history(run.info.run_id, "sustained_curve_us")] == [
        100.0,
        110.0,
        130.0,
    ]
    assert run.info.start_time == START.timestamp() * 1000
    assert (run.info.status, runs["prune50"].info.status) == ("FINISHED", "FAILED")
    assert runs["prune50"].data.tags["failure_message"] == "No."


def test_mlflow_is_given_no_row_twice(summary, tmp_path):
    import mlflow

    for _ in range(2):
        uri = export_to_mlflow(summary, STARTED, str(tmp_path / "runs.db"))
    client = mlflow.MlflowClient(tracking_uri=uri)
    assert len(client.search_runs([client.get_experiment_by_name("harness").experiment_id])) == len(summary)


def test_mlflow_says_where_it_cannot_log(summary):
    with pytest.raises(UsageError, match="MLflow cannot log to nosuch://there"):
        export_to_mlflow(summary, STARTED, "nosuch://there")


def sessions(folder):
    """Read the trials as TensorBoard's HParams dashboard does."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.data.provider import DataProvider
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider: DataProvider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request_context = RequestContext()
    experiment = get_experiment.Handler(request_context, context, "", api_pb2.GetExperimentRequest()).run()
    statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]
    request = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=statuses)
    for info in experiment.metric_infos:
        request.col_params.add().metric.CopyFrom(info.name)
    response = list_session_groups.Handler(request_context, context, "", request).run()
    return experiment, response.session_groups


def test_tensorboard_shows_one_trial_a_row(summary, tmp_path):
    for _ in range(2):  # the second replaces the first
        export_to_tensorboard(summary, STARTED, tmp_path / "board")
    experiment, groups = sessions(tmp_path / "board")
    trials = {group.hparams["variant"].string_value: group for group in groups}
    assert set(trials) == {"int8", HOSTILE, "prune50"}
    trial = trials["int8"]
    assert trial.hparams["threads"].number_value == 1
    figures = {value.name.tag: value.value for value in trial.metric_values}
    assert figures["latency_median_us"] == pytest.approx(101.0)
    assert figures["top1"] == pytest.approx(0.91)
    about = {info.name.tag: info.description for info in experiment.metric_infos}
    assert about["latency_median_us"].endswith("microseconds")


def test_tensorboard_holds_the_sustained_curve(summary, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export_to_tensorboard(summary, STARTED, tmp_path / "board")
    (folder,) = [path.parent for path in (tmp_path / "board" / SWEEP).glob("int8*/*")]
    events = EventAccumulator(str(folder))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("sustained_curve_us")]
    assert curve == [(0, 100.0), (1, 110.0), (2, 130.0)]


def test_nothing_is_written_outside_the_folder(summary, tmp_path):
    export_to_tensorboard(summary, STARTED, tmp_path / "a" / "board")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["board"]


def test_a_folder_that_cannot_be_made_is_told(summary, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        export_to_tensorboard(summary, STARTED, tmp_path / "file")


@pytest.mark.parametrize("package", ["mlflow", "tensorboard"])
def test_without_the_package_one_sentence_says_how_to_get_it(summary, tmp_path, monkeypatch, package):
    export = {"mlflow": export_to_mlflow, "tensorboard": export_to_tensorboard}[package]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match="is not installed") as caught:
        export(summary, STARTED, tmp_path / "x")
    assert f"harness[{package}]" in caught.value.advice


def test_rows_that_are_no_summary_are_refused(summary, tmp_path):
    with pytest.raises(UsageError, match="whole rows of a summary"):
        export_to_tensorboard(choose_columns(summary, ["sweep_id", "variant"]), STARTED, tmp_path)


PROGRAM = """
import sys
from harness.cli.main import main
sys.argv = ["harness", "results", "export", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize(("form", "place"), [("mlflow", "runs.db"), ("tensorboard", "board")])
def test_the_command_hands_over_without_tensorflow(summary, tmp_path, form, place):
    arguments = ["--format", form, "-o", str(tmp_path / place), "--results", str(tmp_path / "results")]
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert f"Written: {len(summary)} rows to " in finished.stderr
    assert (tmp_path / place).exists()
