"""The export of the caller's account: everything that the caller can read, a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, get_args

import msgspec

from orbital_relay import wire
from orbital_relay.api.exports import FORMAT, ExportBegin, ExportedDevice, ExportEnd, ExportLine, ExportPart
from orbital_relay.core.refusals import no_account
from orbital_relay.errors import Forbidden, NotFound
from orbital_relay.model import GroupId, Principal
from orbital_relay.ports.exports import EXPORT_START, ExportCursor
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.own_account import session

_encode = msgspec.json.Encoder().encode
_SESSIONS = 100
"""Logins of a page."""


class Export:
    """
    One export. It keeps one page at a time, whatever the size of the whole.

    Args:
        context: The hands.
        principal: Whose export it is.
    """

    def __init__(self, context: ServiceContext, principal: Principal) -> None:
        self._context = context
        self._principal = principal
        self._counts: Counter[str] = Counter()
        self._left: list[str] = []

    async def pages(self) -> AsyncIterator[bytes]:
        """
        Yield the lines, whole ones, page by page; the last line counts those before it.

        A group of which the caller is no member any more ends where it is, and the last line names it.

        Raises:
            NotFound: If there is no account for the token; before the first line.
        """
        async for page in self._account():
            yield page
        after = 0
        while (found := await self._context.store.export_group(self._principal.key, after=after)) is not None:
            after, group = found
            try:
                async for page in self._group(GroupId(group.group_id), group):
                    yield page
            except (Forbidden, NotFound):
                self._left.append(group.group_id)
        yield _line("end", ExportEnd(counts=dict(self._counts), left_group_ids=self._left))

    async def _account(self) -> AsyncIterator[bytes]:
        store, principal, now_ms = self._context.store, self._principal, self._context.clock.wall_ms()
        account = await store.export_account(principal.key)
        if account is None:
            raise no_account()
        yield self._lines(
            "begin", [ExportBegin(format=FORMAT, user_id=principal.user_id, exported_at=wire.iso(now_ms))]
        )
        yield self._lines("account", [account])
        offset, more = 0, True
        while more:
            found, more = await store.logins(principal.key, now_ms=now_ms, limit=_SESSIONS, offset=offset)
            offset += len(found)
            yield self._lines("session", [session(each, current=principal.login_id) for each in found])
        devices = [
            ExportedDevice(
                device_id=each.device_id, identity_key=wire.encode_bytes(each.identity_key), suites=each.suites
            )
            for each in await store.own_devices(principal.key)
        ]
        yield self._lines("device", devices)
        yield self._lines("push_subscription", await store.export_subscriptions(principal.key))

    async def _group(self, group_id: GroupId, group: object) -> AsyncIterator[bytes]:
        store, principal = self._context.store, self._principal
        state = await store.member_state(principal.key, group_id)
        yield self._lines("group", [group])
        if state.encrypted_state is not None:
            yield self._lines("state", [state])
        part: ExportPart
        for part in get_args(ExportPart):
            after: ExportCursor | None = EXPORT_START
            while after is not None:
                now_ms = self._context.clock.wall_ms()
                page = await store.export_page(principal.key, part, group_id, after=after, now_ms=now_ms)
                after = page.after
                yield self._lines(part, page.entries)

    def _lines(self, kind: str, entries: Iterable[Any]) -> bytes:
        lines = [_line(kind, each) for each in entries]
        if lines:
            self._counts[kind] += len(lines)
        return b"".join(lines)


def _line(kind: str, data: Any) -> bytes:  # noqa: ANN401 - any body
    return _encode(ExportLine(type=kind, data=data)) + b"\n"
