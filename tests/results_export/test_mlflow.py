"""What MLflow itself reads of an export."""

import subprocess
import sys

import pytest
from results_examples import START, SWEEP, accuracy_outcome, add, begin, cell, measure, succeeded

from harness.analysis.summary import summarize
from harness.benchmark.invocation import Pass
from harness.errors import Failure, FailureClass, UsageError
from harness.export.mlflow import export_to_mlflow
from harness.export.tables import choose_columns, summary_frame
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


def test_without_mlflow_one_sentence_says_how_to_get_it(summary, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="is not installed") as caught:
        export_to_mlflow(summary, STARTED, str(tmp_path / "x"))
    assert "harness[mlflow]" in caught.value.advice


def test_rows_that_are_no_summary_are_refused(summary, tmp_path):
    with pytest.raises(UsageError, match="whole rows of a summary"):
        export_to_mlflow(choose_columns(summary, ["sweep_id", "variant"]), STARTED, str(tmp_path / "x"))


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


def test_the_command_logs_without_tensorflow(summary, tmp_path):
    arguments = ["--format", "mlflow", "-o", str(tmp_path / "runs.db"), "--results", str(tmp_path / "results")]
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert f"Written: {len(summary)} rows to " in finished.stderr
    assert (tmp_path / "runs.db").exists()
