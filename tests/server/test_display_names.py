"""Display names over HTTP."""

from __future__ import annotations

import json

from tests.server.api import EACH_DATABASE, Api, User
from tests.server.test_own_account import log_in, sign_up
from tests.support import tokens

pytestmark = EACH_DATABASE

PATH = "/api/account/display-name"
GRANDMOTHER = "Großmutter Ólöf 👵"


async def shown(user: User, group_id: str) -> dict[str, str | None]:
    """Return the display name of each member, by username."""
    members = (await user.get(f"/api/groups/{group_id}/members")).json()["members"]
    return {each["username"]: each["display_name"] for each in members}


async def test_a_display_name(api: Api):
    """[DISPNAME1] A display name is in the account and in members' lists, for users of another service too."""
    ada, eve = await sign_up(api), User(api, "outside|1", "eve", tokens.token("outside|1", "eve"))
    group = await ada.make_group()
    assert (await eve.join(group)).status_code == 200

    answers = [await each.ask("PUT", PATH, json={"display_name": f"  {GRANDMOTHER} "}) for each in (ada, eve)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == (await ada.get("/api/account")).json()
    assert answers[0].json()["display_name"] == GRANDMOTHER
    assert await shown(ada, group["group_id"]) == {"ada": GRANDMOTHER, "eve": GRANDMOTHER}
    export = [json.loads(line) for line in (await ada.get("/api/account/export")).text.splitlines()]
    named = [line["data"]["display_name"] for line in export if line["type"] in {"account", "member"}]
    assert named == [GRANDMOTHER] * 3
    assert (await log_in(api)).username == "ada"

    removed = await ada.ask("PUT", PATH, json={"display_name": None})

    assert removed.json()["display_name"] is None
    assert await shown(eve, group["group_id"]) == {"ada": None, "eve": GRANDMOTHER}


async def test_a_refused_name(api: Api):
    """[DISPNAME3] A refused display name is 400 with its field, and the one before stays."""
    ada = await sign_up(api)
    assert (await ada.ask("PUT", PATH, json={"display_name": GRANDMOTHER})).status_code == 200

    for body in (
        {"display_name": "\u202eadA"},
        {"display_name": "x" * 65},
        {"display_name": ""},
        {},
        {"display_name": 7},
    ):
        answer = await ada.ask("PUT", PATH, json=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
        assert answer.json()["details"]["field"] == "display_name"

    assert (await ada.get("/api/account")).json()["display_name"] == GRANDMOTHER
    assert (await api.ask("PUT", PATH, json={"display_name": "x"})).status_code == 401


async def test_an_erased_account(api: Api):
    """[DISPNAME5] The display name is erased with the account."""
    ada = await sign_up(api)
    assert (await ada.ask("PUT", PATH, json={"display_name": GRANDMOTHER})).status_code == 200
    (row,) = await api.node.store.users(named=ada.id)
    await api.node.store.request_erasure(row.key, at_ms=0)

    await api.node.erase()

    found = await api.node.store._read(
        lambda conn: conn.exec_driver_sql("SELECT username, display_name FROM users").fetchall()
    )
    assert [tuple(each) for each in found] == [("deleted", None)]
