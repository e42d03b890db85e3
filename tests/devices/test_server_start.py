"""An adb server that has ended is missed by every phone's thread at the same moment."""

import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.devices.adb.server import adb_client

THREADS, ROUNDS = 8, 3


@pytest.fixture
def no_server(adb, monkeypatch):
    """A port where no server listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))

    def end():
        subprocess.run([adb, "kill-server"], env=os.environ, timeout=20, capture_output=True, check=False)

    yield end
    end()


def test_many_threads_that_start_the_server_at_once_all_get_it(no_server):
    for _ in range(ROUNDS):
        begin = threading.Barrier(THREADS)

        def ask(begin=begin):
            begin.wait(60)
            return adb_client().server_version()

        with ThreadPoolExecutor(THREADS) as pool:
            versions = [future.result() for future in [pool.submit(ask) for _ in range(THREADS)]]
        assert len(set(versions)) == 1
        no_server()
