"""Limits on plain requests, the metrics of a real server, and settings that stop it."""

from __future__ import annotations

import sys

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orbital_relay.server.ops.metrics import METRICS
from tests.support.client import PASSWORD, opaque
from tests.support.process import Program
from tests.support.tokens import token


def _client(server, *, source="127.0.0.1", bearer=None):
    return httpx.AsyncClient(
        base_url=server.url,
        trust_env=False,
        headers={} if bearer is None else {"Authorization": f"Bearer {bearer}"},
        transport=httpx.AsyncHTTPTransport(local_address=source),
    )


def _assert_too_many(answer, within_s):
    assert answer.status_code == 429
    assert answer.json()["error"] == "TOO_MANY_REQUESTS"
    assert answer.json()["details"]["retry_after"] == int(answer.headers["Retry-After"])
    assert within_s - 60 <= int(answer.headers["Retry-After"]) <= within_s


async def test_guessing_passwords(serve):
    """[DOO20] Ten logins in 15 minutes per address and name; the eleventh is 429, even with the right password."""
    server = serve(env={"ORBITAL_LOGIN_LIMIT": "10"})
    async with _client(server) as here, _client(server, source="127.0.0.2") as there:
        await here.post("/api/signup", json={"username": "ada", "password": PASSWORD, "public_key": {}})
        right = {"username": "ada", "password": PASSWORD}
        tries = [{"username": "ada", "password": "wrong"}, {"username": "nobody", "password": "wrong"}] * 10
        answers = [await here.post("/api/login", json=body) for body in tries]

        assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
        _assert_too_many(await here.post("/api/login", json=right), 900)
        assert (await here.post("/api/login", json={**right, "username": "bob"})).status_code == 401
        assert (await there.post("/api/login", json=right)).status_code == 200


async def test_creating_accounts(serve):
    """[DOO21] Signups are limited per address in 15 minutes; invalid ones do not count."""
    server = serve(env={"ORBITAL_SIGNUP_LIMIT": "3"})

    async with _client(server) as http:

        async def sign_up(name: str, password: str = PASSWORD) -> httpx.Response:
            body = {"username": name, "password": password, "public_key": {}}
            return await http.post("/api/signup", json=body)

        assert [(await sign_up("ada", "weak")).status_code for _ in range(4)] == [400] * 4
        assert [(await sign_up(name)).status_code for name in ("ada", "bob", "cleo")] == [201] * 3
        _assert_too_many(await sign_up("dora"), 900)


async def test_guessing_invite_codes(serve):
    """[DOO22] Join attempts in 15 minutes are limited by user, from any address, and by address, for any user."""
    server = serve(env={"ORBITAL_JOIN_LIMIT": "3"})
    body = {"invite_code": "AAAAAAAA", "encrypted_group_key": opaque()}

    async def tries(count, user, source):
        async with _client(server, bearer=token(user), source=source) as http:
            return [await http.post("/api/groups/join", json=body) for _ in range(count)]

    assert [answer.status_code for answer in await tries(4, "guesser", "127.0.0.1")] == [404, 404, 404, 429]
    _assert_too_many((await tries(1, "guesser", "127.0.0.2"))[0], 900)
    _assert_too_many((await tries(1, "another", "127.0.0.1"))[0], 900)
    assert (await tries(1, "another", "127.0.0.2"))[0].status_code == 404


async def test_other_requests(serve):
    """[DOO23] Other requests per minute are limited by user, from any address; other users are not affected."""
    server = serve(env={"ORBITAL_REQUEST_LIMIT": "20"})
    async with (
        _client(server, bearer=token("busy")) as busy,
        _client(server, bearer=token("busy"), source="127.0.0.2") as elsewhere,
        _client(server, bearer=token("calm")) as calm,
    ):
        assert [(await busy.get("/api/groups")).status_code for _ in range(20)] == [200] * 20
        _assert_too_many(await busy.get("/api/groups"), 60)
        _assert_too_many(await elsewhere.get("/v1/messages"), 60)
        assert (await calm.get("/api/groups")).status_code == 200


async def test_metrics_name_no_user(server, people):
    """[DOO24] After two listeners received one message, the metrics count it and name no user."""
    ada, bob = await people(server.url), await people(server.url)
    group = await ada.make_group()
    await bob.join(group)
    async with await ada.listen(group) as one, await bob.listen(group) as two:
        sent = await ada.say(group)
        await one.until_seq(group, sent["seq"])
        await two.until_seq(group, sent["seq"])
        async with _client(server) as http:
            refused = await http.get("/ws", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
            answer = await http.get("/metrics")

    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert refused.status_code >= 400
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert found["orbital_connections",] == 2
    assert found["orbital_subscriptions",] == 2
    assert found["orbital_live_groups",] == 1
    assert found["orbital_events_total", "member_joined"] == 2
    assert found["orbital_events_total", "new_message"] == 1
    assert found["orbital_deliveries_total",] == 2
    assert found["orbital_append_batch_drafts_sum",] == 3
    assert found["orbital_append_seconds_count",] == found["orbital_append_batch_drafts_count",] >= 1
    assert found["orbital_frames_in_total",] == 2
    assert found["orbital_http_requests_total", "POST", "/v1/messages", "200"] == 1
    assert 0 < found["orbital_sent_bytes_total",] <= found["orbital_sent_plain_bytes_total",]
    assert found["orbital_behind_listeners",] == found["orbital_draining",] == 0
    assert all(f"# TYPE {metric.name} {metric.kind}" in answer.text for metric in METRICS)
    for name in (ada.user_id, bob.user_id, ada.username, group.id, "127.0.0.1"):
        assert name not in answer.text


@pytest.mark.parametrize(
    "args, env, why",
    [
        (("--port", "http"), {}, "--port is 'http'; it must be a whole number from 0 to 65535."),
        (
            (),
            {"ORBITAL_CONNECT_POLICY": "lenient"},
            "ORBITAL_CONNECT_POLICY is 'lenient'; it must be one of home, strict.",
        ),
        ((), {"DATABASE_URL": "mysql://hush@h/d"}, "DATABASE_URL is set to something else; it must be sqlite:///"),
        ((), {"JWT_SECRET": ""}, "JWT_SECRET is empty; give it a value"),
        (
            (),
            {"ORBITAL_JWT_PUBLIC_KEY_FILE": "/nowhere.pem"},
            "/nowhere.pem, cannot be read: No such file or directory.",
        ),
    ],
)
def test_an_invalid_setting(tmp_path, args, env, why):
    """[DOO25] An invalid setting ends the server before it listens, with a sentence and a failing status."""
    program = Program(
        [sys.executable, "-m", "orbital_relay", "serve", "--port", "0", *args],
        env={"PATH": "", "ORBITAL_DATA_DIR": str(tmp_path / "var"), **env},
    )

    assert program.wait() != 0
    assert why in " ".join(program.text.split())
    assert "Traceback" not in program.text
    assert "hush" not in program.text
