"""Connections that a campaign of faults cuts: they pass bytes on until then, and new ones are made after."""

from __future__ import annotations

import socket

from bench.outside import Relay


def test_a_relay_passes_bytes_on_until_it_is_cut_and_takes_new_connections_then() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(server.getsockname()[1])
        place = ("127.0.0.1", int(relay.address.rpartition(":")[2]))
        for _ in range(2):
            with socket.create_connection(place) as here, server.accept()[0] as there:
                here.settimeout(10)
                there.settimeout(10)
                here.sendall(b"asked")
                assert there.recv(5, socket.MSG_WAITALL) == b"asked"
                there.sendall(b"told")
                assert here.recv(4, socket.MSG_WAITALL) == b"told"
                relay.cut()
                assert (here.recv(1), there.recv(1)) == (b"", b"")
        relay.close()
