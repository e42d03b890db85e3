"""A lease holds between processes and users, and ends with its process, however that ends."""

import os
import signal
import subprocess
import sys

import pytest

from harness.devices.lease import lease
from harness.errors import DeviceError

SERIAL = f"lease-test-{os.getpid()}"
HOLD = """
import sys
from harness.devices.lease import lease
with lease(sys.argv[1]):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def holder():
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, SERIAL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_holder_is_named_and_killing_it_frees_the_device_at_once(holder):
    with pytest.raises(DeviceError, match=rf"in use by another harness \(process {holder.pid} of user \w+\)"):
        lease(SERIAL).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lease(SERIAL):
        pass


def test_another_serial_is_free(holder):
    with lease(f"{SERIAL}-other"):
        pass


def test_asking_often_does_not_wear_a_lease_out(holder):
    for _ in range(300):
        with pytest.raises(DeviceError, match="in use by another harness"):
            lease(SERIAL).__enter__()


def _as_nobody():
    """Ask for the lease in a forked process of another user; return the refusal, or nothing."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            with lease(SERIAL):
                said = ""
        except DeviceError as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_kept_out_too_and_gets_the_device_afterwards(holder):
    assert f"process {holder.pid} of user root" in _as_nobody()
    holder.communicate("\n")
    assert _as_nobody() == ""
