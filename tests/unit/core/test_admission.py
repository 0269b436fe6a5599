"""The decision of what a handshake counts among, and of whom an address stands for."""

from __future__ import annotations

import pytest

from orbital_relay.core.admission import Count, address_key, connect_counts, parse_address


@pytest.fixture(autouse=True)
def _empty_cache():
    """Read each address again: what an earlier test left in the cache would hide a change of the code."""
    parse_address.cache_clear()


def _counts(policy, user_id, address="192.0.2.7"):
    return connect_counts(policy, address=address, user_id=user_id, limit=5, ceiling=60)


def test_home_counts_by_address_and_user_and_by_address():
    """[ADM1] With `home` a valid token counts by address and user, below the ceiling of the address."""
    assert _counts("home", "anna") == (
        Count("connect.user", "192.0.2.7 anna", 5),
        Count("connect.ceiling", "192.0.2.7", 60),
    )


def test_home_counts_anonymous_clients_by_address():
    """[ADM2] With `home` an invalid token counts by address, apart from the users, below its ceiling."""
    assert _counts("home", None) == (
        Count("connect.stranger", "192.0.2.7", 5),
        Count("connect.ceiling", "192.0.2.7", 60),
    )


@pytest.mark.parametrize("user_id", ["anna", None])
def test_strict_counts_every_attempt_of_the_address(user_id):
    """[ADM3] With `strict` there is one count for the address, shared by all users."""
    assert _counts("strict", user_id) == (Count("connect", "192.0.2.7", 5),)


@pytest.mark.parametrize(
    "address, key",
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("::1", "::1"),
        ("fe80::1", "fe80::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("unix", "unix"),
    ],
)
def test_the_key_of_an_address(address, key):
    """[ADM4] IPv4 is counted by address, also in IPv6-mapped form; IPv6 by its /64, except for local addresses."""
    assert address_key(address) == key


@pytest.mark.parametrize(
    "text, shown",
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:443", "192.0.2.7"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", None),
        ("unknown", None),
        ("192.0.2.7:", None),
        ("192.0.2.7:http", None),
        ("192.0.2.300", None),
        ("[2001:db8::1", None),
        ("[2001:db8::1]443", None),
        ("[2001:db8::1]:x", None),
        ("[192.0.2.7", None),
        ("_hidden", None),
    ],
)
def test_addresses_as_proxies_write_them(text, shown):
    """[ADM5] Ports, brackets and quotes are ignored; an invalid address is rejected."""
    found = parse_address(text)

    assert (None if found is None else str(found)) == shown


@pytest.mark.parametrize("text", ["X192.0.2.7X", "[fe80::1%a]b]", "192.0.2.7:²", "192.0.2.7:x1", "[::1]x80"])
def test_malformed_addresses(text):
    """[ADM6] Text around an address, or a port with characters other than ASCII digits, makes the address invalid."""
    assert parse_address(text) is None


def test_a_port_of_one_digit():
    """[ADM7] A port has at least one digit."""
    assert str(parse_address("192.0.2.7:9")) == "192.0.2.7"
