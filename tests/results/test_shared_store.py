"""A store on a server: what every verb says of it, what its errors mean, and that no password is ever shown."""

import json
import os
import subprocess
import sys

import pytest
from postgresql_server import KEPT_OUT, WITH_PASSWORD
from results_examples import SWEEP, accuracy_outcome, add, begin, cell, measure, succeeded, sweep_record
from sqlalchemy import text
from stored_tables import frame
from typer.testing import CliRunner

from harness.cli.main import app
from harness.errors import HarnessError, UsageError
from harness.store.location import find_location
from harness.store.records import SweepStatus
from harness.store.store import Store

SECRET = "gehe1m"
EARLIER = "20261123-083000-ab12"


def fill(store):
    for sweep_id in (EARLIER, SWEEP):
        begin(store, sweep_id, variants=("fp32", "int8"))
        for variant in ("fp32", "int8"):
            latencies = [1000.0 + 10 * index for index in range(6)]
            measure(store, cell(variant), latencies, outcome=accuracy_outcome(), sweep_id=sweep_id)
        store.finish_sweep(sweep_id, SweepStatus.FINISHED, sweep_record().started_at)


@pytest.fixture(scope="module")
def filled(postgresql, tmp_path_factory):
    """The same sweeps in a folder and on a server."""
    folder, url = tmp_path_factory.mktemp("filled"), postgresql.new_database("filled")
    for place in (folder, url):
        with Store.open(place) as store:
            fill(store)
    return str(folder), url


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})


READERS = (
    ("results", "list", "--json"),
    ("results", "show", "latest", "--json"),
    ("results", "export", "all", "--format", "json"),
    ("results", "export", "all", "--rows", "invocations", "--format", "csv"),
    ("compare", "latest~1", "latest", "--json"),
    ("compare", "latest", "--by", "variant", "--json"),
    ("explain", "latest", "int8", "cpu", "--json"),
    ("history", "--json"),
    ("history", "int8", "cpu", "--json"),
)


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_every_verb_says_the_same_of_a_server_as_of_a_folder(filled, arguments):
    of_folder, of_server = (call(*arguments, "--results", place) for place in filled)
    assert (of_folder.exception, of_folder.exit_code) == (None, 0) or isinstance(of_folder.exception, SystemExit)
    assert len(of_folder.stdout) > 100
    assert (of_server.stdout, of_server.exit_code) == (of_folder.stdout, of_folder.exit_code)


def test_a_report_says_the_same_of_a_server_as_of_a_folder(filled, tmp_path):
    pages = [tmp_path / "folder.html", tmp_path / "server.html"]
    for place, page in zip(filled, pages, strict=True):
        assert call("report", "-o", page, "--results", place).exit_code == 0
    assert pages[0].read_text() == pages[1].read_text()


def test_a_raw_log_is_read_from_any_host(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # another host has nothing but the URL
    for place in filled:
        with Store.open(place) as store:
            path = frame(store.invocations(SWEEP))["log_path"].iloc[0]
        assert call("results", "log", path, "--results", place).stdout == "the log"
    with (
        pytest.raises(HarnessError, match="Cannot read the log nosuch: it is not in the store"),
        Store.open(filled[1]) as store,
    ):
        store.logs.read("nosuch")


def test_the_environment_names_a_server_too(filled, monkeypatch):
    monkeypatch.setenv("HARNESS_RESULTS", filled[1])
    assert [sweep["id"] for sweep in json.loads(call("results", "list", "--json").stdout)["sweeps"]] == [SWEEP, EARLIER]


def test_a_prune_takes_rows_and_logs(shared_store_url):
    with Store.open(shared_store_url) as store:
        fill(store)
    planned = json.loads(
        call("results", "prune", "--keep", "1", "--yes", "--json", "--results", shared_store_url).stdout
    )
    (gone,) = planned["sweeps"]
    assert (gone["sweep_id"], gone["log_files"]) == (EARLIER, 16)
    assert gone["log_bytes"] > 16 * 20
    with Store.open(shared_store_url) as store:
        assert [store.logs.size(sweep_id).files for sweep_id in (EARLIER, SWEEP)] == [0, 16]
        assert [sweep.id for sweep in store.sweeps()] == [SWEEP]


def test_texts_are_sorted_alike_whatever_the_language_of_the_server(shared_store_url, tmp_path):
    names = ["a-b", "ab", "B", "b", "ä", "_", "a b"]
    found = []
    for place in (tmp_path, shared_store_url):
        with Store.open(place) as store:
            begin(store, variants=names)
            found.append(frame(store.variants(SWEEP))["name"].tolist())
    assert found[0] == found[1] == sorted(names)


def test_large_numbers_fit(shared_store_url):
    with Store.open(shared_store_url) as store:
        store.start_sweep(sweep_record(seed=2**62))
        assert store.find_sweep("latest").seed == 2**62


# ---- errors ----


def problem_of(url):
    with pytest.raises(HarnessError) as caught:
        Store.open(url).close()
    assert SECRET not in f"{caught.value} {caught.value.advice}"
    return f"{caught.value} {caught.value.advice}"


@pytest.fixture(scope="module")
def users(postgresql):
    postgresql.execute(f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD '{SECRET}'")
    postgresql.execute(f"CREATE ROLE {KEPT_OUT} LOGIN")


def test_a_server_that_cannot_be_used_is_explained(postgresql, users):
    assert "is not there" in problem_of(postgresql.url("nosuch"))
    assert "createdb" in problem_of(postgresql.url("nosuch"))
    assert "is not there" in problem_of(postgresql.url(user="nobody-known"))
    assert "refused the password" in problem_of(postgresql.url(user=WITH_PASSWORD, password=f"{SECRET}-wrong"))
    assert "asks for a password" in problem_of(postgresql.url(user=WITH_PASSWORD))
    assert "pg_hba.conf" in problem_of(postgresql.url(user=KEPT_OUT))
    assert "does not answer" in problem_of(f"postgresql://me:{SECRET}@127.0.0.1:1/results")
    assert "does not answer" in problem_of(f"postgresql://me:{SECRET}@/results?host=/nosuch")
    assert "is on a host that is not known" in problem_of(f"postgresql://me:{SECRET}@nohost.invalid/results")
    assert "does not let this user in" in problem_of(postgresql.url(user=WITH_PASSWORD, password=SECRET))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host:port/results",
        f"postgresql://me:{SECRET}/{SECRET}@host/results",
        f"postgresql://me:{SECRET}@host",
        f"mysql://me:{SECRET}@host/results",
        f"nosuch://me:{SECRET}@host/results",
        f"postgresql+nosuch://me:{SECRET}@host/results",
        f"://{SECRET}",
    ],
)
def test_a_url_that_means_nothing_is_bad_usage_and_not_repeated(url):
    with pytest.raises(UsageError) as caught:
        Store.open(url)
    assert SECRET not in f"{caught.value} {caught.value.advice}"


def test_a_password_is_never_shown(postgresql, users, shared_store_url, harness_cli):
    database = find_location(shared_store_url).url.database
    postgresql.execute(f"ALTER DATABASE {database} OWNER TO {WITH_PASSWORD}")
    postgresql.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database)
    url = postgresql.url(database, user=WITH_PASSWORD, password=SECRET)
    in_query = f"{postgresql.url(database, user=WITH_PASSWORD)}?password={SECRET}"
    said = [harness_cli("results", verb, "--results", place) for verb, place in (("list", url), ("show", in_query))]
    assert [finished.returncode for finished in said] == [0, 3]  # there is nothing yet
    with Store.open(url) as store:
        fill(store)
        shown = f"{store.title} {store.folder} {store._engine!r}"
    said += [
        harness_cli("results", "show", HARNESS_RESULTS=url),
        harness_cli("results", "show", "no", "--results", url),
    ]
    postgresql.execute("DROP TABLE alembic_version", database)
    said += [harness_cli("results", "list", "--results", url)]
    told = shown + "".join(finished.stdout + finished.stderr for finished in said)
    assert f"{WITH_PASSWORD}@127.0.0.1" in told
    assert SECRET not in told


def test_a_database_that_may_only_be_read_is_read_and_not_written(filled):
    with Store.open(f"{filled[1]}?options=-cdefault_transaction_read_only%3Don") as store:
        assert len(frame(store.invocations(SWEEP))) > 0
        with pytest.raises(UsageError, match=r"cannot be written: cannot execute .* in a read-only transaction"):
            store.add_cell(SWEEP, cell("other"))


def test_a_full_disk_of_the_server_is_explained(shared_store_url):
    with Store.open(shared_store_url) as store:
        begin(store)
        store.add_cell(SWEEP, cell())
        store._execute(
            text(
                "CREATE FUNCTION full_disk() RETURNS trigger AS $$ BEGIN "
                "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; "
                "END $$ LANGUAGE plpgsql"
            ),
            text("CREATE TRIGGER fills BEFORE INSERT ON invocations FOR EACH ROW EXECUTE FUNCTION full_disk()"),
        )
        with pytest.raises(HarnessError, match="cannot grow: could not extend file") as caught:
            add(store, cell(), 0, succeeded())
        assert "--resume" in caught.value.advice
        assert store.logs.size(SWEEP).files == 0  # the log went with the row


def test_without_a_driver_one_sentence_says_what_to_install(shared_store_url):
    program = (
        "import sys\nsys.modules['psycopg'] = None\nfrom harness.cli.main import main\n"
        f"sys.argv = ['harness', 'results', 'list', '--results', {shared_store_url!r}]\nmain()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
    )
    assert finished.returncode == 2
    assert "needs a driver that is not installed: psycopg" in finished.stderr
    assert "pip install 'harness[postgresql]'" in finished.stderr
    assert len(finished.stderr.splitlines()) == 2


def test_files_of_a_night_lie_in_a_folder_of_the_store_alone():
    place = find_location("postgresql://me@lab.example:6000/results")
    assert (str(place.folder), place.title) == (
        "results/lab.example-6000-results",
        "postgresql://me@lab.example:6000/results",
    )
