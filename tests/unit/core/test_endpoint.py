"""Which addresses a server may connect to when a client names the address."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from orbital_relay.core.endpoint import endpoint_fault, is_allowed

HOME = (ip_network("192.168.7.0/24"), ip_network("fd00:7::/64"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        # Teredo: the last 32 bits are the client's address inverted, here 10.0.0.1.
        "2001:0:909:909::f5ff:fffe",
    ],
)
def test_private_addresses_are_refused(address: str):
    """[PUSH2] No address of a private, local, shared or multicast network is allowed, nor one embedded in IPv6."""
    assert not is_allowed(ip_address(address), ())
    assert not is_allowed(ip_address(address), HOME)


@pytest.mark.parametrize(
    "address",
    ["9.9.9.9", "142.250.1.1", "2a00:1450:4001::1", "::ffff:9.9.9.9", "64:ff9b::9.9.9.9", "2001:0:a00:1::f6f6:f6f6"],
)
def test_public_addresses_are_allowed(address: str):
    """[PUSH2] Public addresses are allowed."""
    assert is_allowed(ip_address(address), ())


@pytest.mark.parametrize("address", ["192.168.7.5", "fd00:7::5", "::ffff:192.168.7.5"])
def test_named_networks_are_allowed(address: str):
    """[PUSH2] A private address is allowed in a network that the operator named, and only there."""
    assert is_allowed(ip_address(address), HOME)
    assert not is_allowed(ip_address(address), ())


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("http://push.example.org/x", "must begin with https://"),
        ("ftp://push.example.org/x", "must begin with https://"),
        ("push.example.org", "must be a URL"),
        ("https:///x", "must be a URL"),
        ("https://[::1/x", "must be a URL"),
        ("https://push.example.org:99999/x", "must be a URL"),
        ("https://push.example.org/a b", "must be a URL"),
        ("https://push.example.org/\r\nX: y", "must be a URL"),
        ("https://bücher.example/x", "must be a URL"),
        ("https://user@push.example.org/x", "must have no user name and no fragment"),
        ("https://push.example.org/x#y", "must have no user name and no fragment"),
        ("https://127.0.0.1/x", "must not be in a private network (ORBITAL_PUSH_NETWORKS names exceptions)"),
        ("https://[::ffff:10.0.0.1]/x", "must not be in a private network (ORBITAL_PUSH_NETWORKS names exceptions)"),
        ("https://push.example.org/x?y=z", None),
        ("https://9.9.9.9:8443/x", None),
    ],
)
def test_endpoints(endpoint: str, fault: str | None):
    """[PUSH2] An endpoint is an https URL, without user name, and not at a private address."""
    assert endpoint_fault(endpoint, ()) == fault


def test_http_is_for_named_networks():
    """[PUSH2] http is accepted once the operator names networks; a literal address must then be in one of them."""
    assert endpoint_fault("http://192.168.7.5/x", HOME) is None
    assert endpoint_fault("http://192.168.8.5/x", HOME) is not None
