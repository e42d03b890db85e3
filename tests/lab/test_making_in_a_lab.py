"""A lab measures while its variants are still being made elsewhere: they are handed over to the jobs under way."""

import threading

import pytest
from lab_processes import INVOCATIONS, Host, Process, harness, write_spec
from results_examples import card
from small_networks import write_model
from stored_tables import frame

from harness.lab.transfer import VariantBatch, VariantDelivery, arrived, hand_over, supplied
from harness.store.store import Store
from harness.sweep.variants import VariantQueue
from harness.tflite.variant import Variant

pytestmark = pytest.mark.slow

TRAINED = """
name = "{name}"
[[steps]]
technique = "pruning"
settings = {{ sparsity = 0.5, epochs = {epochs}, batch = 64, learning_rate = 0.001 }}
"""


def made(name):
    return Variant(f"/here/{name}", card(name))


def test_a_job_gets_every_variant_once_and_is_told_of_the_last():
    supply = VariantQueue(is_open=True)
    supply.add(made("fp32"))
    delivery = VariantDelivery(supply)
    first = delivery.due()
    assert first == VariantBatch((card("fp32"),), is_open=True, is_complete=False)
    delivery.given(first)
    assert delivery.due() is None
    with supplied("job", first, threading.Event()) as there:
        assert there.ready == (arrived(card("fp32")),)
        supply.add(made("int8"))
        assert not hand_over("another job", delivery.due())
        assert delivery.due().cards == (card("int8"),)  # it is given again until a job has it
        assert hand_over("job", delivery.due())
        delivery.given(delivery.due())
        assert there.snapshot.ready == (arrived(card("fp32")), arrived(card("int8")))
        assert there.is_open
        supply.close(is_complete=True)
        assert delivery.due() == VariantBatch((), is_open=False, is_complete=True)
        assert hand_over("job", delivery.due())
        delivery.given(VariantBatch((), is_open=False, is_complete=True))
        assert delivery.due() is None
        assert there.wait_for_all()
    assert not hand_over("job", first)


def test_a_job_that_is_stopped_waits_for_no_variant():
    stop = threading.Event()
    with supplied("job", VariantBatch((card("fp32"),), is_open=True, is_complete=False), stop) as there:
        stop.set()
        assert list(there.as_they_come()) == []
        assert not there.wait_for_all()


@pytest.mark.virtual_phone
@pytest.mark.training
@pytest.mark.timeout(600)
def test_variants_reach_a_job_that_waits_for_them_and_a_stopped_one_leaves_the_phone_free(
    tmp_path, phone_ready, adb, shared_store_url
):
    write_model(tmp_path)
    for name, epochs in (("hours", 10_000), ("short", 1)):
        (tmp_path / f"{name}.toml").write_text(TRAINED.format(name=name, epochs=epochs))
    spec = write_spec(tmp_path / "spec.toml", model=str(tmp_path / "quarters.toml"))
    scheduler = Process(
        harness("lab", "scheduler", "--host", "127.0.0.1", "--port", "0"), tmp_path / "scheduler.log", {}
    )
    host = Host("lab1", tmp_path / "lab1")
    try:
        address = scheduler.says("The lab is open at ").split("The lab is open at ")[1].split()[0].rstrip(".")
        host.start_phones("alone")
        host.start_worker(address).says("is in the lab")

        def start(log, *arguments):
            command = harness("sweep", *arguments, "--lab", address, "--results", shared_store_url, "--recipe", "fp32")
            return Process(command, tmp_path / log, {"HARNESS_CACHE": str(tmp_path / "cache-here")})

        stopped = start("stopped.log", str(spec), "--recipe", str(tmp_path / "hours.toml"))
        stopped.says("waiting for the remaining variants")
        stopped.interrupt()
        assert stopped.wait() == 4, stopped.said
        carried_on = start("carried-on.log", "--resume", "latest", "--recipe", str(tmp_path / "short.toml"))
        assert carried_on.wait() == 0, carried_on.said
        assert "waiting for the remaining variants" in carried_on.said
        with Store.open(shared_store_url) as store:
            (sweep,) = store.sweeps()
            names = frame(store.cells(sweep.id)).set_index("key")["variant_name"]
            counts = frame(store.invocations(sweep.id))["cell_key"].map(names).value_counts().to_dict()
        assert counts == {"fp32": INVOCATIONS, "short": INVOCATIONS}
    finally:
        host.stop()
        scheduler.kill()
