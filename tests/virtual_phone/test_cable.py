"""The faulty cable alone, between two sockets."""

import socket
from contextlib import suppress

import pytest

from harness.virtual_phone.cable import Cable


@pytest.fixture
def ends():
    """Both ends of a cable that is plugged in: the computer's and the phone's."""
    with socket.create_server(("127.0.0.1", 0)) as phone:
        cable = Cable(phone.getsockname()[1])
        with socket.create_connection(("127.0.0.1", cable.port), timeout=20) as near, phone.accept()[0] as far:
            far.settimeout(20)
            yield near, far
        cable.close()


def test_what_one_end_says_the_other_hears(ends):
    near, far = ends
    near.sendall(b"question")
    assert far.recv(100) == b"question"
    far.sendall(b"answer")
    assert near.recv(100) == b"answer"


@pytest.mark.parametrize("closing", [0, 1])
def test_an_end_that_closes_is_noticed_at_the_other(ends, closing):
    ends[closing].close()
    assert ends[1 - closing].recv(100) == b""


def test_a_connection_that_is_being_made_is_cut_too(monkeypatch):
    """The computer has connected and the phone has accepted: the cut comes before the cable has noted both."""
    with socket.create_server(("127.0.0.1", 0)) as phone, socket.socket() as near:
        cable = Cable(phone.getsockname()[1])
        connect = socket.create_connection

        def cut_in_between(*address, **options):
            end = connect(*address, **options)
            cable.cut()
            return end

        monkeypatch.setattr(socket, "create_connection", cut_in_between)
        near.settimeout(20)
        with suppress(ConnectionResetError, BrokenPipeError):
            near.connect(("127.0.0.1", cable.port))
            assert near.recv(1) == b""
        cable.close()
