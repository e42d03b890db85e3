"""Two computers made of network namespaces, each with an adb server and phones of its own; one lab, one store."""

import json
import shutil
from collections import Counter
from contextlib import ExitStack

import pytest
from lab_processes import INVOCATIONS, Host, Process, harness, until, write_spec
from namespaces import NoNamespacesError, switch
from postgresql_server import postgresql_server, programs_folder
from stored_tables import frame

from harness.store.store import Store

pytestmark = [pytest.mark.virtual_phone, pytest.mark.timeout(600), pytest.mark.slow]


class TwoHosts:
    """The lab of one test: its scheduler and its store are on this computer, as on a lab's server."""

    def __init__(self, stack, folder):
        network = stack.enter_context(switch())
        self.folder = folder
        database = stack.enter_context(postgresql_server(network=(network.address, network.network)))
        self.url = database.url().replace("127.0.0.1", network.address)
        self.scheduler = Process(
            harness("lab", "scheduler", "--host", network.address, "--port", "0"), folder / "scheduler.log", {}
        )
        stack.callback(self.scheduler.kill)
        self.address = self.scheduler.says("The lab is open at ").split("The lab is open at ")[1].split()[0].rstrip(".")
        self.computers = [network.add_computer() for _ in range(2)]
        self.hosts = [
            Host(f"lab{number}", folder / f"lab{number}", inside=computer.inside, sleep_s=0.5)
            for number, computer in enumerate(self.computers, 1)
        ]
        self.phones = []
        self.workers = []
        self._places = {}
        for host in self.hosts:
            stack.callback(host.stop)
            names = [f"{host.name}-left", f"{host.name}-right"]
            phones = [f"{serial}@{host.name}" for serial in host.start_phones(*names)]
            self._places |= {phone: (host, name) for phone, name in zip(phones, names, strict=True)}
            self.phones.append(phones)
            self.workers.append(host.start_worker(self.address))
        for worker in self.workers:
            worker.says("is in the lab")
        self._sweeps = self._processes = 0

    def start_sweep(self, *arguments):
        self._processes += 1
        self._sweeps += "--resume" not in arguments
        self._joined = [worker.said.count("is in the lab") for worker in self.workers]
        return Process(
            harness("sweep", *arguments, "--lab", self.address, "--results", self.url, "--json"),
            self.folder / f"sweep{self._processes}.log",
            {"HARNESS_CACHE": str(self.folder / "cache-here")},
        )

    def start_sweep_of_held_phones(self, spec):
        """Start a sweep; on each phone one process has run, and the next one waits."""
        for host, name in self._places.values():
            host.hold(name)
        sweep = self.start_sweep(spec)
        for host, name in self._places.values():
            host.let_one_go(name)
        until(lambda: self.good() == dict.fromkeys(self.all_phones, 1), "a process of each phone")
        return sweep

    def let_go(self, *phones):
        """Let all processes of phones run."""
        for phone in phones:
            host, name = self._places[phone]
            host.let_go(name)

    def joined(self, number):
        """Return how often a host had joined the lab before the newest sweep."""
        return self._joined[number]

    def good(self):
        """Count the good processes of the newest sweep by phone."""
        with Store.open(self.url) as store:
            sweeps = store.sweeps()
            if len(sweeps) < self._sweeps:
                return Counter()
            cells = frame(store.cells(sweeps[0].id)).set_index("key")["serial"]
            stored = frame(store.invocations(sweeps[0].id))
        return Counter(cells[key] for key in stored[stored["failure_class"].isna()]["cell_key"])

    def failures(self):
        """Return the failure of each phone of the newest sweep that could not be measured."""
        with Store.open(self.url) as store:
            devices = frame(store.devices(store.sweeps()[0].id))
        failed = devices[devices["failure_class"].notna()]
        return dict(zip(failed["serial"], failed["failure_class"], strict=True))

    def hosts_of_phones(self):
        """Return from where each phone of the newest sweep was measured."""
        with Store.open(self.url) as store:
            devices = frame(store.devices(store.sweeps()[0].id))
        return {row["serial"]: row["preparation"]["host"] for row in devices.to_dict("records")}

    @property
    def all_phones(self):
        return [phone for phones in self.phones for phone in phones]


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory, phone_ready, adb, must_have):
    if shutil.which("ip") is None:
        must_have("the program ip (Debian: apt install iproute2)")
    if programs_folder() is None:
        must_have("PostgreSQL's server (Debian: apt install postgresql)")
    with ExitStack() as stack:
        try:
            lab = TwoHosts(stack, tmp_path_factory.mktemp("two-hosts"))
        except NoNamespacesError as error:
            pytest.skip(f"this user or kernel makes no network of namespaces: {error}")
        yield lab


@pytest.fixture
def spec(two_hosts, tmp_path):
    return str(write_spec(tmp_path / "spec.toml"))


def rows_of(sweep):
    return json.loads(sweep.said[sweep.said.rindex("\n{\n") :])["rows"]


def test_a_host_that_is_cut_off_parks_its_cells_and_completes_when_it_is_back(two_hosts, spec):
    (held, other), far = two_hosts.phones
    sweep = two_hosts.start_sweep_of_held_phones(spec)
    two_hosts.computers[1].cut_off()
    until(lambda: two_hosts.failures().keys() == set(far), "the failure of the phones of the host that was cut off")
    assert set(two_hosts.failures().values()) == {"device_lost"}
    two_hosts.let_go(other)
    until(lambda: two_hosts.good()[other] == INVOCATIONS, "the end of a phone of the other host")
    two_hosts.computers[1].connect()
    two_hosts.let_go(*far)
    until(lambda: all(two_hosts.good()[phone] == INVOCATIONS for phone in far), "the end of the host that is back")
    assert two_hosts.good()[held] == 1
    two_hosts.let_go(held)
    assert sweep.wait() == 0, sweep.said
    assert two_hosts.good() == dict.fromkeys(two_hosts.all_phones, INVOCATIONS)
    assert {row["serial"]: row["invocations_ok"] for row in rows_of(sweep)} == two_hosts.good()
    assert two_hosts.hosts_of_phones() == {phone: phone.split("@")[1] for phone in two_hosts.all_phones}
    for phone in far:
        assert f"{phone}: the connection to lab2 was lost." in sweep.said
        assert f"{phone} is back: resuming its remaining cells." in sweep.said
    assert two_hosts.failures() == {}


def test_a_host_that_stays_away_is_told_and_resume_completes_the_sweep(two_hosts, spec):
    near, far = two_hosts.phones
    sweep = two_hosts.start_sweep_of_held_phones(spec)
    two_hosts.computers[1].cut_off()
    two_hosts.let_go(*near)
    assert sweep.wait() == 1, sweep.said
    assert all(two_hosts.good()[phone] == INVOCATIONS for phone in near)
    assert all(two_hosts.good()[phone] == 1 for phone in far)
    assert two_hosts.failures() == dict.fromkeys(far, "device_lost")
    two_hosts.computers[1].connect()
    two_hosts.let_go(*far)
    until(lambda: two_hosts.workers[1].said.count("is in the lab") > two_hosts.joined(1), "the host's return")
    resumed = two_hosts.start_sweep("--resume", "latest")
    assert resumed.wait() == 0, resumed.said
    assert two_hosts.good() == dict.fromkeys(two_hosts.all_phones, INVOCATIONS)
    assert two_hosts.failures() == {}
