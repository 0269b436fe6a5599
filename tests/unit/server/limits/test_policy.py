"""Addresses behind proxies, origins, and limits, with a clock that is set by hand."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.config import Settings, load
from orbital_relay.errors import TooManyRequests
from orbital_relay.server.limits.limiter import LocalLimiter
from orbital_relay.server.limits.policy import ConnectPolicy, RequestLimits, client_address, origin_allowed, too_many

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.1/32", "2001:db8:ffff::/48")))


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_ms(self):
        return round(self.now_s * 1000)

    def steady_s(self):
        return self.now_s


class Elsewhere:
    """A limiter that is not in this process: the same counting, only with waiting."""

    def __init__(self, clock) -> None:
        self.inner = LocalLimiter(clock)

    async def hit(self, name, key, *, limit, window_s):
        return await self.inner.hit(name, key, limit=limit, window_s=window_s)

    async def peek(self, name, key, *, limit, window_s):
        return await self.inner.peek(name, key, limit=limit, window_s=window_s)


@pytest.fixture
def clock():
    """Time that the test moves."""
    return Clock()


@pytest.fixture(params=["local", "elsewhere"])
def limiter(request, clock):
    """Each way to count."""
    return LocalLimiter(clock) if request.param == "local" else Elsewhere(clock)


# Chapter: addresses


@pytest.mark.parametrize(
    "peer, forwarded_for, address",
    [
        # The peer is not a trusted proxy: its header is ignored.
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("2001:db8::9", ["198.51.100.1"], "2001:db8::9"),
        # It is: the right-most that is not trusted.
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 127.0.0.1,10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:5555"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:5555"], "2001:db8::1"),
        ("2001:db8:ffff::2", ["2001:DB8::1"], "2001:db8::1"),
        # Nothing to go by: the proxy itself.
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # An empty element of a list is ignored (RFC 9110 §5.6.1).
        ("10.0.0.1", ["198.51.100.1,"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", " , "], "198.51.100.1"),
        # No IP address at all.
        (None, ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.2, 198.51.100.1"], "198.51.100.1"),
        ("/run/orbital.sock", [], "unix"),
    ],
)
def test_the_address_of_an_attempt(peer, forwarded_for, address):
    """[ADR1] The client's address is the peer's, or the right-most untrusted one that a trusted peer forwards."""
    assert client_address(peer, forwarded_for, PROXIES) == address


def test_without_proxies_the_header_is_ignored():
    """[ADR2] Without a trusted proxy only the peer's address is used."""
    assert client_address("10.0.0.1", ["198.51.100.1"], ()) == "10.0.0.1"


@given(st.lists(st.text(max_size=40), max_size=4))
def test_a_client_cannot_forge_its_address(forwarded_for):
    """[ADR3] Whatever header a client sends, the address that the proxy added is used."""
    assert client_address("10.0.0.1", [*forwarded_for, "198.51.100.1"], PROXIES) == "198.51.100.1"
    assert client_address("198.51.100.1", forwarded_for, PROXIES) == "198.51.100.1"


@pytest.mark.parametrize(
    "origin, allowed, answer",
    [
        ("https://any.example", (), True),
        (None, ("https://a.example",), True),
        ("https://a.example", ("https://a.example",), True),
        ("https://A.example", ("https://a.example",), True),
        ("http://a.example", ("https://a.example",), False),
        ("https://a.example:8443", ("https://a.example",), False),
        ("https://a.example.evil.example", ("https://a.example",), False),
        ("null", ("https://a.example",), False),
        ("", ("https://a.example",), False),
    ],
)
def test_origins(origin, allowed, answer):
    """[ORI1] Without a list every origin may connect; with one, only the listed origins and requests without Origin."""
    assert origin_allowed(origin, frozenset(allowed), host="relay.example") is answer


@pytest.mark.parametrize(
    "origin, host, answer",
    [
        ("https://relay.example", "relay.example", True),
        ("http://Relay.example", "RELAY.example", True),
        ("http://localhost:3000", "localhost:3000", True),
        # What proxies write that pass on `$host:$server_port`.
        ("https://relay.example", "relay.example:443", True),
        ("http://relay.example", "relay.example:80", True),
        ("https://[2001:db8::1]", "[2001:db8::1]:443", True),
        ("https://relay.example", "relay.example:80", False),
        ("https://relay.example", "relay.example:3000", False),
        ("https://relay.example:8443", "relay.example", False),
        ("https://relay.example.evil.example", "relay.example", False),
        ("https://evil.example", "relay.example", False),
        ("app://relay.example", "relay.example", False),
        ("https://", "", False),
        ("relay.example", "relay.example", False),
        ("https://relay.example", None, False),
    ],
)
def test_the_servers_own_origin_is_always_allowed(origin, host, answer):
    """[ORI2] The origin of the requested host may connect, whatever the list contains."""
    assert origin_allowed(origin, frozenset({"https://a.example"}), host=host) is answer


@pytest.mark.parametrize("origin", ["null", "app://orbital", "https://a.example"])
def test_origins_of_applications_may_be_listed(origin):
    """[ORI3] `null` and an application's own scheme are allowed only if they are listed."""
    settings = load({}, {"ORBITAL_ALLOWED_ORIGINS": f"https://b.example, {origin}"})

    assert origin_allowed(origin, settings.allowed_origins, host="relay.example")
    assert not origin_allowed(origin, frozenset({"https://b.example"}), host="relay.example")


# Chapter: handshakes

HOME, ELSEWHERE = "192.0.2.7", "198.51.100.1"


async def _tries(policy, count, address=HOME, user_id="anna"):
    return [await policy.admit(address, user_id) for _ in range(count)]


async def test_five_a_minute(limiter, clock):
    """[ATT1] Five attempts of a user from an address pass; the sixth waits until the first is a minute old."""
    policy = ConnectPolicy(Settings(), limiter)
    assert await _tries(policy, 3) == [None] * 3
    clock.now_s += 10
    assert await _tries(policy, 2) == [None] * 2

    assert await policy.admit(HOME, "anna") == 50
    clock.now_s += 50
    assert await _tries(policy, 3) == [None] * 3
    assert await policy.admit(HOME, "anna") == 10


async def test_home_counts_each_user_separately(limiter):
    """[ATT2] With `home` a user's attempts do not count for other users, anonymous clients, or another address."""
    policy = ConnectPolicy(Settings(), limiter)
    await _tries(policy, 5)

    assert await policy.admit(HOME, "anna") == 60
    assert await policy.admit(HOME, "bert") is None
    assert await policy.admit(HOME, None) is None
    assert await policy.admit(ELSEWHERE, "anna") is None


async def test_anonymous_clients_share_five(limiter):
    """[ATT3] With `home`, attempts without a valid token are limited to five per address, apart from the users'."""
    policy = ConnectPolicy(Settings(), limiter)

    assert await _tries(policy, 6, user_id=None) == [None] * 5 + [60]
    assert await policy.admit(HOME, "anna") is None


async def test_the_ceiling_of_an_address(limiter, clock):
    """[ATT4] Sixty attempts of an address, by any users, are the maximum; refused ones do not count."""
    policy = ConnectPolicy(Settings(), limiter)
    assert await _tries(policy, 50, user_id="anna") == [None] * 5 + [60] * 45
    for user in range(11):
        assert await _tries(policy, 5, user_id=f"user-{user}") == [None] * 5

    assert await policy.admit(HOME, "late") == 60
    assert await policy.admit(HOME, None) == 60
    assert await policy.admit(ELSEWHERE, "late") is None
    clock.now_s += 60
    assert await _tries(policy, 6, user_id="late") == [None] * 5 + [60]


async def test_strict_counts_all_users_together(limiter):
    """[ATT5] With `strict` an address has five attempts for all users together."""
    policy = ConnectPolicy(Settings(connect_policy="strict"), limiter)

    tries = [await policy.admit(HOME, user) for user in ("anna", "bert", None, "anna", None, "cleo")]

    assert tries == [None] * 5 + [60]
    assert await policy.admit(ELSEWHERE, "anna") is None


async def test_an_ipv6_network_counts_as_one_address(limiter):
    """[ATT6] All addresses of an IPv6 /64 count together; the next /64 does not."""
    policy = ConnectPolicy(Settings(), limiter)
    for host in range(5):
        assert await policy.admit(f"2001:db8:1:2::{host + 1}", None) is None

    assert await policy.admit("2001:db8:1:2:ffff::9", None) == 60
    assert await policy.admit("2001:db8:1:3::1", None) is None


async def test_a_check_counts_no_attempt(limiter):
    """[ATT7] A check, as a request for a ticket makes, counts no attempt but returns 429 while none is left."""
    policy = ConnectPolicy(Settings(), limiter)
    assert [await policy.peek(HOME, "anna") for _ in range(20)] == [None] * 20

    assert await _tries(policy, 5) == [None] * 5

    assert await policy.peek(HOME, "anna") == 60
    assert await policy.peek(HOME, "bert") is None


async def test_refused_attempts_do_not_extend_the_wait(limiter, clock):
    """[ATT8] A client that retries every second is accepted at the same moment as one that waits."""
    policy = ConnectPolicy(Settings(), limiter)
    await _tries(policy, 5)

    for second in range(1, 60):
        clock.now_s += 1
        assert await policy.admit(HOME, "anna") == 60 - second
    clock.now_s += 1

    assert await policy.admit(HOME, "anna") is None


async def test_settings_count(limiter):
    """[ATT9] The limit and the ceiling come from the settings."""
    policy = ConnectPolicy(Settings(connect_limit=2, connect_ceiling=3), limiter)

    assert await _tries(policy, 3) == [None, None, 60]
    assert await _tries(policy, 2, user_id="bert") == [None, 60]


def test_a_handshake_is_decided_without_waiting(clock):
    """[ATT10] With in-process counts a handshake is decided without waiting, and the counts are the same."""
    policy = ConnectPolicy(Settings(), LocalLimiter(clock))

    assert policy.local
    assert [policy.admit_now(HOME, "anna") for _ in range(6)] == [None] * 5 + [60]
    assert not ConnectPolicy(Settings(), Elsewhere(clock)).local
    with pytest.raises(AssertionError, match="look at `local` first"):
        ConnectPolicy(Settings(), Elsewhere(clock)).admit_now(HOME, "anna")


async def test_an_attempt_taken_between_check_and_hit(clock):
    """[ATT11] If another server takes the last attempt of a shared count meanwhile, the attempt is refused."""

    class Racing(Elsewhere):
        async def peek(self, name, key, *, limit, window_s):
            return None

    policy = ConnectPolicy(Settings(connect_ceiling=1), Racing(clock))
    assert await policy.admit(HOME, "anna") is None

    assert await policy.admit(HOME, "bert") == 60


# Chapter: requests


async def _refusal(call, *args):
    with pytest.raises(TooManyRequests) as refused:
        await call(*args)
    return refused.value


@pytest.mark.parametrize("name", ["login", "signup"])
async def test_logins_and_signups(limiter, clock, name):
    """[REQ1] Login and signup each allow ten requests in 15 minutes per address; the refusal has Retry-After."""
    limits = RequestLimits(Settings(), limiter)
    call = {"login": partial(limits.login, name="anna"), "signup": limits.signup}[name]
    other = {"signup": partial(limits.login, name="anna"), "login": limits.signup}[name]
    for _ in range(10):
        await call(HOME)
    clock.now_s += 100.5

    refused = await _refusal(call, HOME)

    assert refused.retry_after_s == 800
    assert refused.details == {"retry_after": 800}
    assert refused.headers == {"Retry-After": "800"}
    assert f"Too many {name}s; try again in 800 s." == refused.message
    await call(ELSEWHERE)
    await other(HOME)
    clock.now_s += 800
    await call(HOME)


async def test_one_name_does_not_lock_the_address_out(limiter):
    """[HOU1] Ten logins under one name leave the other names of the address their own, up to sixty in total."""
    limits = RequestLimits(Settings(), limiter)
    for name in ("anna", "bert", "carl", "dora", "emil", "fred"):
        for _ in range(10):
            await limits.login(HOME, name)

    assert (await _refusal(limits.login, HOME, "anna")).retry_after_s == 900
    assert (await _refusal(limits.login, HOME, "gina")).retry_after_s == 900
    await limits.login(ELSEWHERE, "anna")


async def test_a_higher_limit_raises_the_ceiling(limiter):
    """[HOU1] A limit above the ceiling raises the ceiling of the address, too."""
    limits = RequestLimits(Settings(login_limit=70), limiter)

    for _ in range(70):
        await limits.login(HOME, "anna")

    await _refusal(limits.login, HOME, "bert")


async def test_joining_is_limited_by_address_and_by_user(limiter):
    """[REQ2] Twenty attempts to join in 15 minutes are allowed per address, and per user from any address."""
    limits = RequestLimits(Settings(), limiter)
    for number in range(20):
        await limits.join(f"203.0.113.{number}", "anna")
    for number in range(20):
        await limits.join(HOME, f"user-{number}")

    assert (await _refusal(limits.join, ELSEWHERE, "anna")).retry_after_s == 900
    assert (await _refusal(limits.join, HOME, "new")).retry_after_s == 900
    await limits.join(ELSEWHERE, "new")


async def test_other_requests(limiter, clock):
    """[REQ3] A user may send six hundred requests a minute; the next waits, and other users are unaffected."""
    limits = RequestLimits(Settings(), limiter)
    for _ in range(600):
        await limits.request("anna")

    assert (await _refusal(limits.request, "anna")).retry_after_s == 60
    await limits.request("bert")
    clock.now_s += 60
    await limits.request("anna")


def test_a_request_is_decided_without_waiting(clock):
    """[REQ4] With in-process counts a request is decided without waiting."""
    limits = RequestLimits(Settings(request_limit=1), LocalLimiter(clock))
    assert limits.local
    limits.request_now("anna")

    with pytest.raises(TooManyRequests):
        limits.request_now("anna")


@given(st.floats(0.0001, 10_000))
def test_retry_after_is_sufficient(wait_s):
    """[REQ5] `Retry-After` is in whole seconds, never less than the wait, and at most one second more."""
    seconds = too_many(wait_s, "attempts").retry_after_s

    assert wait_s <= seconds < wait_s + 1 or seconds == 1
