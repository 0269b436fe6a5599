"""Recovery of the whole log over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.api import Api, User, opaque, opened
from tests.support.client import link

_NOWHERE = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(shared_api: Api) -> Api:
    """One node for all of these: opening one takes longer than most of them."""
    return shared_api


_NDJSON = {"Accept": "application/x-ndjson"}


async def _talk(ada: User, messages: int) -> str:
    group = (await ada.make_group())["group_id"]
    for _ in range(messages):
        assert (await ada.say(group)).status_code == 200
    return str(group)


async def test_the_log_page_by_page(api: Api):
    """[REC1] Pages follow each other without gap or duplicate; `last_seq` is the group's, on every page."""
    ada = api.user()
    group = await _talk(ada, 10)

    seqs: list[int] = []
    while True:
        page = (await ada.get("/v1/events", group_id=group, after_seq=len(seqs), limit=4)).json()
        seqs += [event["seq"] for event in page["events"]]
        assert page["last_seq"] == 11
        if not page["has_more"]:
            break

    assert seqs == list(range(1, 12))


async def test_large_events_page_by_page(api: Api):
    """[REC1] A page ends before its limit when its events reach 8 MiB; `has_more` says so, and none is omitted."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    for _ in range(30):
        assert (await ada.say(group, opaque(262_144))).status_code == 200

    seqs: list[int] = []
    sizes: list[int] = []
    more = True
    while more:
        answer = await ada.get("/v1/events", group_id=group, after_seq=len(seqs), limit=1000)
        page = answer.json()
        seqs += [event["seq"] for event in page["events"]]
        sizes.append(len(answer.content))
        more = page["has_more"]

    assert seqs == list(range(1, 32))
    assert len(sizes) == 2
    assert 8 * 1024 * 1024 < sizes[0] < 9 * 1024 * 1024


async def test_lines_can_be_verified(api: Api):
    """[REC2] With ndjson each line is the stored text: its hash is the `prev` of the next line."""
    ada = api.user()
    group = await _talk(ada, 5)

    answer = await ada.ask("GET", "/v1/events", params={"group_id": group, "limit": 4}, headers=_NDJSON)

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert (answer.headers["x-last-seq"], answer.headers["x-has-more"]) == ("6", "true")
    assert answer.text.endswith("\n")
    expected = link(group)
    for number, line in enumerate(answer.text.splitlines(), 1):
        frame = json.loads(line)
        assert (frame["seq"], frame["prev"]) == (number, expected)
        expected = link(line)


async def test_both_formats_are_equal(api: Api):
    """[REC2] The objects in the JSON response are the ndjson lines, byte for byte."""
    ada = api.user()
    group = await _talk(ada, 3)

    whole = await ada.get("/v1/events", group_id=group)
    lines = await ada.ask("GET", "/v1/events", params={"group_id": group}, headers=_NDJSON)

    assert whole.text == '{"events":[' + ",".join(lines.text.splitlines()) + '],"last_seq":4,"has_more":false}'
    assert lines.headers["x-has-more"] == "false"


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, application/x-ndjson", True),
        ("application/x-ndjson;q=0.5, application/json", False),
        ("application/json;q=0.5, application/x-ndjson;q=0.6", True),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson; q=x", False),
        ("APPLICATION/X-NDJSON", True),
        ("text/html, application/x-ndjson ; q=0.9, */*;q=0.1", True),
    ],
)
async def test_content_negotiation(api: Api, accept: str | None, *, lines: bool):
    """[REC2] ndjson is sent when it is named and JSON is not preferred (RFC 9110 §12.5.1); `Vary` informs caches."""
    ada = api.user()
    group = await _talk(ada, 0)
    headers = {} if accept is None else {"Accept": accept}

    answer = await ada.ask("GET", "/v1/events", params={"group_id": group}, headers=headers)

    assert answer.headers["content-type"] == ("application/x-ndjson" if lines else "application/json")
    assert answer.headers["vary"] == "Accept"


async def test_nothing_new(api: Api):
    """[REC1] At or past the end the page is empty, and that is not an error."""
    ada = api.user()
    group = await _talk(ada, 1)

    pages = [(await ada.get("/v1/events", group_id=group, after_seq=after)).json() for after in (2, 3, 10**12)]

    assert pages == [{"events": [], "last_seq": 2, "has_more": False}] * 3


async def test_events_that_are_no_longer_kept(tmp_path: Path):
    """[REC3] A position before the oldest kept event is 410 with that event's number; later positions succeed."""
    async with opened(tmp_path) as api:
        ada = api.user()
        group = await _talk(ada, 9)
        stamps = [event["server_timestamp"] for event in (await ada.get("/v1/events", group_id=group)).json()["events"]]
        assert await api.node.store.prune(before_ms=stamps[4], limit=100) == 4

        gone = await ada.get("/v1/events", group_id=group, after_seq=3)
        kept = await ada.get("/v1/events", group_id=group, after_seq=4)

        assert (gone.status_code, gone.json()["error"]) == (410, "GONE")
        assert gone.json()["details"] == {"oldest_seq": 5}
        assert [event["seq"] for event in kept.json()["events"]] == list(range(5, 11))


async def test_logs_of_others(api: Api):
    """[PERM1] 403 where the group exists, 404 where it does not, also for a former member."""
    ada, eve = api.user(), api.user()
    group = await _talk(ada, 1)

    statuses = [(await eve.get("/v1/events", group_id=name)).status_code for name in (group, _NOWHERE)]
    await ada.ask("DELETE", f"/api/groups/{group}/members/{ada.id}")

    assert statuses == [403, 404]
    assert (await ada.get("/v1/events", group_id=group)).status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "group_id"),
        ("group_id=", "group_id"),
        ("group_id=nope", "group_id"),
        (f"group_id={_NOWHERE}&group_id={_NOWHERE}", "group_id"),
        (f"group_id={_NOWHERE}&limit=0", "limit"),
        (f"group_id={_NOWHERE}&limit=1001", "limit"),
        (f"group_id={_NOWHERE}&after_seq=-1", "after_seq"),
        (f"group_id={_NOWHERE}&after_seq=x", "after_seq"),
        (f"group_id={_NOWHERE}&after_seq={2**63}", "after_seq"),
        (f"group_id={_NOWHERE}&after_seq=1&after_seq=1", "after_seq"),
    ],
)
async def test_bad_queries_name_the_field(api: Api, query: str, field: str):
    """[FORM6] A missing, repeated, non-integer or out-of-range parameter is 400 with the name of the field."""
    answer: Any = await api.user().ask("GET", f"/v1/events?{query}")

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field)
