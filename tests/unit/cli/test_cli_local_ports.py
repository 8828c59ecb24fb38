"""Ports for a local cluster's processes: free, different, and not those of connections."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rayserve_par.cli.local import ports
from rayserve_par.cli.local.ports import HOST, free_ports


def test_ports_are_free_different_and_never_given_to_connections() -> None:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given.exists():
        pytest.skip("this system does not say which ports connections get")
    first = int(given.read_text(encoding="ascii").split()[0])
    if first < 21000:
        pytest.skip(f"connections get all ports from {first} on")
    found = free_ports(50)
    assert len(set(found)) == 50
    assert all(20000 <= port < first for port in found)
    for port in found:
        with socket.socket() as probe:
            probe.bind((HOST, port))


@pytest.mark.parametrize("said", [None, "", "1024\t65535\n"])
def test_where_connections_may_get_any_port_the_kernel_chooses(
    said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "range"
    if said is not None:
        file.write_text(said, encoding="ascii")
    monkeypatch.setattr(ports, "_GIVEN_FILE", file)
    assert len(set(free_ports(3))) == 3


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        [port] = free_ports(1)
        taken.bind((HOST, port))
        monkeypatch.setattr(ports.random, "sample", lambda *_: [port])
        assert free_ports(1) != [port]
