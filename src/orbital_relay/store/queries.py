"""The reads, and the writes that append nothing: one text for both databases. Each runs inside one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from orbital_relay import wire
from orbital_relay.api.fields import as_sent
from orbital_relay.api.groups import Group, Groups, Member, Members
from orbital_relay.api.threads import Replies, Thread, ThreadReply, Threads
from orbital_relay.core.chain import prev_of
from orbital_relay.errors import Conflict, Forbidden, PositionLost, UsernameTaken
from orbital_relay.model import (
    Access,
    Account,
    Event,
    GroupId,
    Head,
    IdempotencyKey,
    MembershipAtHead,
    Page,
    ResumePoint,
    Revocation,
    UserId,
)
from orbital_relay.store import tables as t
from orbital_relay.store.effects import no_group, no_thread, not_member

PAGE_BYTES: Final = 8 * 1024 * 1024
"""Bytes at which a page of a list or of the log ends before its limit.

A hundred messages of 400 bytes are 70 KB; a thousand of the largest would be 350 MB, and several times that while they
are written out.
"""

KEY_LIFETIME_MS: Final = 24 * 3600 * 1000
"""How long an idempotency key answers."""

_HEAD = (t.groups.c.last_seq, t.groups.c.floor_seq, t.groups.c.last_stamp_ms, t.groups.c.last_hash)

# Chapter: access


def access(conn: Connection, user: int, group_id: str) -> Access:
    """Tell what a user may do with a group."""
    return _standing(conn, user, group_id)[0]


def _standing(conn: Connection, user: int, group_id: str) -> tuple[Access, int]:
    row = conn.execute(
        select(t.groups.c.id, t.members.c.user)
        .outerjoin(t.members, (t.members.c.group == t.groups.c.id) & (t.members.c.user == user))
        .where(t.groups.c.group_id == group_id)
    ).one_or_none()
    if row is None:
        return Access.UNKNOWN, 0
    return (Access.STRANGER if row.user is None else Access.MEMBER), int(row.id)


def require_member(conn: Connection, user: int, group_id: str) -> int:
    """
    Return the row number of a group that the user is in.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the user is not in it.
    """
    found, group = _standing(conn, user, group_id)
    if found is Access.UNKNOWN:
        raise no_group()
    if found is Access.STRANGER:
        raise not_member()
    return group


# Made once: when ten thousand clients come back, making a statement anew costs more than SQLite takes to run it.
_STANDINGS = select(t.groups.c.group_id, t.members.c.user, *_HEAD).outerjoin(
    t.members, (t.members.c.group == t.groups.c.id) & (t.members.c.user == bindparam("user"))
)
_STANDING = _STANDINGS.where(t.groups.c.group_id == bindparam("group_id"))
_GROUP_HEAD = select(t.groups.c.id, *_HEAD).where(t.groups.c.group_id == bindparam("group_id"))
_EVENTS = (
    select(t.events.c.place, t.events.c.stamp_ms, t.events.c.frame)
    .where(t.events.c.place > bindparam("after"), t.events.c.place <= bindparam("last"))
    .order_by(t.events.c.place)
    .limit(bindparam("most"))
)
# asyncpg hands over whole answers, so PostgreSQL has to know where to stop; it adds up lengths without reading frames.
_LENGTH = func.length(t.events.c.frame)
_WEIGHED = _EVENTS.add_columns(
    (func.sum(_LENGTH).over(order_by=t.events.c.place) - _LENGTH).label("bytes_before")
).subquery()
_EVENTS_WITHIN = (
    select(_WEIGHED.c.place, _WEIGHED.c.stamp_ms, _WEIGHED.c.frame)
    .where(_WEIGHED.c.bytes_before < bindparam("bytes"))
    .order_by(_WEIGHED.c.place)
)


def standings(conn: Connection, user: int, group_ids: Collection[str]) -> dict[GroupId, MembershipAtHead]:
    """Return access and head for those groups that exist."""
    if len(group_ids) == 1:
        rows = conn.execute(_STANDING, {"user": user, "group_id": next(iter(group_ids))})
    else:
        rows = conn.execute(_STANDINGS.where(_among(conn, group_ids)), {"user": user})
    return {
        row.group_id: MembershipAtHead(Access.STRANGER if row.user is None else Access.MEMBER, Head(*row[2:]))
        for row in rows
    }


# Chapter: the log


def heads(conn: Connection, group_ids: Collection[str]) -> dict[GroupId, Head]:
    """Return the heads of those groups that exist."""
    found: dict[GroupId, Head] = {}
    # A server may follow more groups than either database takes parameters (some 32,000).
    for some in batched(group_ids, 500):
        rows = conn.execute(select(t.groups.c.group_id, *_HEAD).where(_among(conn, some)))
        found.update({GroupId(group_id): Head(*head) for group_id, *head in rows})
    return found


def _among(conn: Connection, group_ids: Collection[str]) -> ColumnElement[bool]:
    """Tell whether a group is one of those; on PostgreSQL by one statement for any number, planned once."""
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import ARRAY  # noqa: PLC0415 - only where it is spoken

        return t.groups.c.group_id == func.any(bindparam(None, list(group_ids), type_=ARRAY(Text)))
    return t.groups.c.group_id.in_(list(group_ids))


def batched(items: Collection[str], size: int) -> Iterator[list[str]]:
    """Split into lists of at most `size`, the last one shorter."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def last_stamp_ms(conn: Connection) -> int:
    """Return the highest `server_timestamp` ever given."""
    return int(conn.execute(select(func.coalesce(func.max(t.groups.c.last_stamp_ms), 0))).scalar_one())


def read(conn: Connection, group_id: str, *, after: int, limit: int) -> Page:
    """Read events after a number, whoever asks."""
    row = conn.execute(_GROUP_HEAD, {"group_id": group_id}).one_or_none()
    if row is None:
        raise no_group()
    return _page(conn, row, group_id, after=after, limit=limit)


def events(conn: Connection, user: int, group_id: str, *, after: int, limit: int) -> Page:
    """Read events after a number, for a member."""
    require_member(conn, user, group_id)
    return read(conn, group_id, after=after, limit=limit)


def _page(conn: Connection, row: Row[*tuple[Any, ...]], group_id: str, *, after: int, limit: int) -> Page:
    head = Head(*row[1:])
    if after < head.floor:
        raise PositionLost(oldest_seq=head.floor + 1)
    bounds = {"after": t.place(row.id, after), "last": t.place(row.id, head.seq), "most": limit}
    if conn.dialect.name == "postgresql":
        found = conn.execute(_EVENTS_WITHIN, {**bounds, "bytes": PAGE_BYTES})
    else:
        # SQLite reads a row when it is asked for it.
        found = conn.execute(_EVENTS, bounds)
    base = t.place(row.id, 0)
    page: list[Event] = []
    size = 0
    for place, stamp, frame in found:
        page.append(Event(GroupId(group_id), place - base, stamp, bytes(frame)))
        size += len(frame)
        if size >= PAGE_BYTES:
            found.close()
            break
    return Page(page, head)


# The end of a frame, where its `prev` stands: a frame may have 350 KB, and this needs 54 bytes of it.
_END_OF_FRAME = func.substr(t.events.c.frame, _LENGTH - 63, 64)


def resume_points(conn: Connection, positions: Mapping[str, int]) -> dict[GroupId, ResumePoint]:
    """Return what is known at a position of each group, by two statements for any number of groups."""
    groups = conn.execute(select(t.groups.c.group_id, t.groups.c.id, *_HEAD).where(_among(conn, positions))).all()
    found: dict[GroupId, ResumePoint] = {}
    places: dict[int, GroupId] = {}
    for group_id, number, last_seq, floor_seq, _, last_hash in groups:
        seq = positions[group_id]
        if seq == last_seq:
            found[GroupId(group_id)] = ResumePoint(str(last_hash), None)
        elif floor_seq <= seq < last_seq:
            places[t.place(number, seq + 1)] = GroupId(group_id)
    if places:
        following = select(t.events.c.place, t.events.c.stamp_ms, _END_OF_FRAME).where(_at_places(conn, list(places)))
        for place, stamp_ms, end in conn.execute(following):
            found[places[place]] = ResumePoint(prev_of(bytes(end)), stamp_ms)
    return found


def _at_places(conn: Connection, places: list[int]) -> ColumnElement[bool]:
    """Match events by their place; on PostgreSQL by one statement for any number, planned once."""
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import ARRAY  # noqa: PLC0415 - only where it is spoken

        return t.events.c.place == func.any(bindparam(None, places, type_=ARRAY(BigInteger)))
    return t.events.c.place.in_(places)


@cache
def _first_messages(dialect: str, *, one_group: bool) -> Select[Any]:
    """Make the query for a user's first messages after a stamp: of each group no more are looked at than are wanted."""
    mine_of = (
        select(t.groups.c.id, t.groups.c.group_id)
        .join(t.members, t.members.c.group == t.groups.c.id)
        # A group whose head is no later has nothing to tell.
        .where(t.members.c.user == bindparam("user"), t.groups.c.last_stamp_ms > bindparam("since"))
    )
    if one_group:
        mine_of = mine_of.where(t.groups.c.group_id == bindparam("group_id"))
    mine = mine_of.subquery("mine")
    of_one = (
        select(t.events.c.stamp_ms, t.events.c.place)
        .where(t.events.c.group == mine.c.id, t.MESSAGES_ONLY, t.events.c.stamp_ms > bindparam("since"))
        .order_by(t.events.c.stamp_ms, t.events.c.place)
        .limit(bindparam("most"))
    )
    found: FromClause
    if dialect == "postgresql":
        found = of_one.lateral("found")
        both = mine.join(found, true())
    else:
        # SQLite has no LATERAL: what a group's own query finds is looked up once more, by its key.
        found = t.events.alias("found")
        both = mine.join(found, found.c.place.in_(of_one.with_only_columns(t.events.c.place).correlate(mine)))
    return (
        select(found.c.stamp_ms, found.c.place, mine.c.group_id)
        .select_from(both)
        .order_by(found.c.stamp_ms, found.c.place)
        .limit(bindparam("most"))
    )


def messages(
    conn: Connection, user: int, *, since_ms: int, limit: int, group_id: str | None
) -> tuple[list[Event], bool]:
    """
    Return messages with stamps above `since_ms`, oldest first, never ending between two of one stamp.

    There are fewer than `limit` when their frames fill a page before. Keys alone are sorted, a bounded number of each
    group; frames are fetched for those that are returned.
    """
    one: dict[str, Any] = {}
    if group_id is not None:
        require_member(conn, user, group_id)
        one = {"group_id": group_id}
    first = _first_messages(conn.dialect.name, one_group=bool(one))
    keys = _keys(conn.execute(first, {"user": user, "since": since_ms, "most": limit + 1, **one}))
    more = len(keys) > limit
    if more:
        last = keys[limit - 1][0]
        # Several servers may give one stamp to events of different groups: the page has all that bear its last.
        cut = keys[limit][0] == last
        keys = keys[:limit]
        if cut:
            mine = _messages_of(user, group_id)
            keys = [key for key in keys if key[0] < last]
            keys += _keys(conn.execute(mine.where(t.events.c.stamp_ms == last).order_by(t.events.c.place)))
            more = conn.execute(mine.where(t.events.c.stamp_ms > last).limit(1)).first() is not None
    fitting = _fitting(conn, keys)
    more = more or len(fitting) < len(keys)
    frames = {place: bytes(frame) for place, frame in _of_events(conn, t.events.c.frame, fitting)}
    return [
        Event(GroupId(name), place & ((1 << t.SEQ_BITS) - 1), stamp, frames[place]) for stamp, place, name in fitting
    ], more


_Key: TypeAlias = tuple[int, int, str]
"""Where a message is: its stamp, its place, its group's id. In this order keys sort as messages are told."""


def _keys(rows: Iterable[Row[*tuple[Any, ...]]]) -> list[_Key]:
    return [(stamp, place, group_id) for stamp, place, group_id in rows]


def _messages_of(user: int, group_id: str | None) -> Select[Any]:
    """Select the keys of a user's messages, in no order."""
    found = (
        select(t.events.c.stamp_ms, t.events.c.place, t.groups.c.group_id)
        .select_from(t.members)
        .join(t.groups, t.groups.c.id == t.members.c.group)
        .join(t.events, t.events.c.group == t.groups.c.id)
        .where(t.members.c.user == user, t.MESSAGES_ONLY)
    )
    return found if group_id is None else found.where(t.groups.c.group_id == group_id)


def _fitting(conn: Connection, keys: list[_Key]) -> list[_Key]:
    """Return the first of those keys, up to where their frames fill a page; never ending between two of one stamp."""
    lengths: dict[int, int] = dict(_of_events(conn, _LENGTH, keys))
    size = 0
    for index, (stamp, place, _) in enumerate(keys):
        if size >= PAGE_BYTES and stamp != keys[index - 1][0]:
            return keys[:index]
        size += lengths[place]
    return keys


def _of_events(conn: Connection, column: ColumnElement[Any], keys: list[_Key]) -> Iterator[tuple[int, Any]]:
    """Yield place and column of the events with those keys."""
    for start in range(0, len(keys), 500):
        wanted = [place for _, place, _ in keys[start : start + 500]]
        for row in conn.execute(select(t.events.c.place, column).where(t.events.c.place.in_(wanted))):
            yield row[0], row[1]


def prune(conn: Connection, *, before_ms: int, limit: int) -> int:
    """Drop up to `limit` events with stamps below `before_ms`; a group's log loses only its beginning."""
    dropped = 0
    # The oldest event that a group keeps has the number after its floor, so one look at a key tells.
    oldest = t.events.alias()
    candidates = conn.execute(
        select(t.groups.c.id, t.groups.c.floor_seq)
        .join(oldest, oldest.c.place == t.groups.c.id * (1 << t.SEQ_BITS) + t.groups.c.floor_seq + 1)
        .where(oldest.c.stamp_ms < before_ms)
        .order_by(t.groups.c.id)
        .limit(limit)
        .with_for_update(of=t.groups)
    ).all()
    for group, floor in candidates:
        if dropped >= limit:
            break
        window = (
            select(t.events.c.place, t.events.c.stamp_ms)
            .where(t.events.c.place > t.place(group, floor), t.events.c.place < t.place(group + 1, 0))
            .order_by(t.events.c.place)
            .limit(limit - dropped)
            .subquery()
        )
        last = conn.execute(select(func.max(window.c.place)).where(window.c.stamp_ms < before_ms)).scalar()
        if last is None:
            continue
        gone = conn.execute(
            delete(t.events).where(t.events.c.place > t.place(group, floor), t.events.c.place <= last)
        ).rowcount
        conn.execute(update(t.groups).where(t.groups.c.id == group).values(floor_seq=last - t.place(group, 0)))
        dropped += gone
    return dropped


def prune_keys(conn: Connection, *, before_ms: int, limit: int) -> int:
    """Drop up to `limit` idempotency keys first used before a moment, and revocations that outlived their tokens."""
    keys = t.idempotency_keys
    old = conn.execute(select(keys.c.user, keys.c.key).where(keys.c.used_ms < before_ms).limit(limit)).all()
    for user, key in old:
        conn.execute(delete(keys).where(keys.c.user == user, keys.c.key == key))
    # The highest number stays: SQLite would give it again, and servers read only what is above the last they have.
    r = t.revocations.c
    highest = select(func.max(r.number)).scalar_subquery()
    conn.execute(delete(t.revocations).where(r.until_s < before_ms / 1000, r.number < highest))
    return len(old)


# Chapter: accounts

_ACCOUNT = (
    t.users.c.id,
    t.users.c.user_id,
    t.users.c.username,
    t.users.c.public_key,
    t.users.c.password_hash,
)


def _account(row: Row[*tuple[Any, ...]]) -> Account:
    return Account(row.id, row.user_id, row.username, msgspec.Raw(row.public_key.encode()), row.password_hash)


def add_account(
    conn: Connection,
    *,
    user_id: str,
    username: str,
    public_key: bytes,
    password_hash: str,
    at_ms: int,
    once: IdempotencyKey | None = None,
) -> Account:
    """
    Add a user who signs up, and the idempotency key that did it.

    Raises:
        UsernameTaken: If another sign-up has the name.
    """
    taken = UsernameTaken(f"The username {username} is taken. Choose another.")
    name = username.lower()
    if conn.execute(select(t.users.c.id).where(t.users.c.signup_name == name)).one_or_none() is not None:
        raise taken
    try:
        row = conn.execute(
            insert(t.users)
            .values(
                user_id=user_id,
                username=username,
                signup_name=name,
                password_hash=password_hash,
                public_key=public_key.decode(),
                created_ms=at_ms,
            )
            .returning(*_ACCOUNT)
        ).one()
    except IntegrityError as exc:
        # Two servers at once: the other one's insert was first.
        raise taken from exc
    if once is not None:
        # The answer holds a token, and no token is stored: a repeated sign-up gets a new one.
        used = {"user": row.id, "key": once.key, "fingerprint": once.fingerprint, "used_ms": at_ms}
        conn.execute(insert(t.idempotency_keys).values({**used, "answer": b""}))
    return _account(row)


def signed_up(conn: Connection, username: str, once: IdempotencyKey, *, now_ms: int) -> Account | None:
    """
    Return the account of that name if a sign-up with this key made it in the last 24 hours.

    Raises:
        Conflict: If the key was used for another body.
    """
    keys = t.idempotency_keys
    row = conn.execute(
        select(*_ACCOUNT, keys.c.fingerprint)
        .join(keys, keys.c.user == t.users.c.id)
        .where(
            t.users.c.signup_name == username.lower(), keys.c.key == once.key, keys.c.used_ms > now_ms - KEY_LIFETIME_MS
        )
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.fingerprint) != once.fingerprint:
        raise Conflict("This Idempotency-Key was used with another request. Use a new key for a new request.")
    return _account(row)


def account(conn: Connection, username: str) -> Account | None:
    """Return the user who signed up with a name, in whatever case."""
    row = conn.execute(select(*_ACCOUNT).where(t.users.c.signup_name == username.lower())).one_or_none()
    return None if row is None else _account(row)


def find_user(conn: Connection, user_id: str) -> Account | None:
    """Return a user by the public id."""
    row = conn.execute(select(*_ACCOUNT).where(t.users.c.user_id == user_id)).one_or_none()
    return None if row is None else _account(row)


def user_key(conn: Connection, user_id: str) -> int | None:
    """Return a user's row number."""
    return conn.execute(select(t.users.c.id).where(t.users.c.user_id == user_id)).scalar()


def enter_user(conn: Connection, *, user_id: str, username: str, at_ms: int) -> int:
    """Return the row number of a token's user, entered with an empty public key if not known."""
    known = user_key(conn, user_id)
    if known is not None:
        return known
    values = {"user_id": user_id, "username": username, "public_key": "{}", "created_ms": at_ms}
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert  # noqa: PLC0415 - only where it is spoken

        conn.execute(upsert(t.users).values(values).on_conflict_do_nothing())
    else:
        conn.execute(insert(t.users).values(values))
    return int(conn.execute(select(t.users.c.id).where(t.users.c.user_id == user_id)).scalar_one())


def revoke(
    conn: Connection, *, token_digest: bytes | None, user_id: UserId | None, at_s: float, until_s: float
) -> None:
    """Note a revocation."""
    conn.execute(insert(t.revocations).values(token_digest=token_digest, user_id=user_id, at_s=at_s, until_s=until_s))


def revocations(conn: Connection, *, after: int) -> list[Revocation]:
    """Return the revocations with a number above `after`."""
    r = t.revocations.c
    rows = conn.execute(select(r.number, r.token_digest, r.user_id, r.at_s).where(r.number > after).order_by(r.number))
    return [Revocation(row.number, row.token_digest, row.user_id, row.at_s) for row in rows]


# Chapter: lists, a page at a time


# Bytes of an entry beside its texts: names of fields, ids, moments and numbers.
_ENTRY_BYTES: Final = 400
# A name of an outside identity provider may hold control characters, which JSON writes as six bytes (RFC 8259 §7).
_NAME_FACTOR: Final = 6


def first_fitting(conn: Connection, keys: Select[Any], *, limit: int, offset: int) -> tuple[list[int], bool]:
    """
    Return the row numbers of one page of a list, and whether more rows follow.

    The page ends at its limit or before `PAGE_BYTES`, and has one row at least: only row numbers and lengths are
    read, so a row that does not fit costs no memory.

    Args:
        conn: In a transaction, so that the rows can be read afterwards as they are now.
        keys: Selects row number and length, in the order of the list.
        limit: Most rows.
        offset: Rows to pass over.
    """
    rows = conn.execute(keys.limit(limit + 1).offset(offset)).all()
    numbers: list[int] = []
    size = 0
    for number, length in rows[:limit]:
        size += int(length) + _ENTRY_BYTES
        if numbers and size > PAGE_BYTES:
            break
        numbers.append(int(number))
    return numbers, len(numbers) < len(rows)


def groups_of(conn: Connection, user: int, *, now_ms: int, limit: int, offset: int) -> Groups:
    """Answer `GET /api/groups`, in the order in which the user joined."""
    mine = t.members.c.user == user
    order = t.members.c.joined_ms, t.groups.c.id
    length = func.length(t.groups.c.encrypted_name) + func.length(t.members.c.encrypted_group_key)
    joined = t.groups.join(t.members, t.members.c.group == t.groups.c.id)
    keys = select(t.groups.c.id, length).select_from(joined).where(mine).order_by(*order)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    counted = t.members.alias()
    count = select(func.count()).where(counted.c.group == t.groups.c.id).scalar_subquery()
    rows = conn.execute(
        select(
            t.groups.c.group_id,
            t.groups.c.encrypted_name,
            t.members.c.encrypted_group_key,
            count.label("member_count"),
            case((t.groups.c.invite_expires_ms > now_ms, t.groups.c.invite_code), else_=None).label("invite_code"),
            t.members.c.joined_ms,
            t.groups.c.last_seq,
        )
        .select_from(joined)
        .where(mine, t.groups.c.id.in_(numbers))
        .order_by(*order)
    )
    return Groups(
        groups=[
            Group(
                group_id=row.group_id,
                encrypted_name=row.encrypted_name,
                encrypted_group_key=row.encrypted_group_key,
                member_count=row.member_count,
                invite_code=row.invite_code,
                joined_at=wire.iso(row.joined_ms),
                last_seq=row.last_seq,
            )
            for row in rows
        ],
        has_more=has_more,
    )


def members(conn: Connection, user: int, group_id: str, *, limit: int, offset: int) -> Members:
    """Answer `GET /api/groups/{group_id}/members`, in the order of joining."""
    group = require_member(conn, user, group_id)
    length = func.length(t.users.c.username) * _NAME_FACTOR + func.length(t.users.c.public_key)
    joined = t.users.join(t.members, t.members.c.user == t.users.c.id)
    keys = (
        select(t.users.c.id, length)
        .select_from(joined)
        .where(t.members.c.group == group)
        .order_by(t.members.c.joined_seq)
    )
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(
        select(t.users.c.user_id, t.users.c.username, t.users.c.public_key, t.members.c.joined_ms)
        .select_from(joined)
        .where(t.members.c.group == group, t.users.c.id.in_(numbers))
        .order_by(t.members.c.joined_seq)
    )
    return Members(
        members=[
            Member(
                user_id=row.user_id,
                username=row.username,
                public_key=as_sent(row.public_key.encode()),
                joined_at=wire.iso(row.joined_ms),
            )
            for row in rows
        ],
        has_more=has_more,
    )


def replace_code(conn: Connection, user: int, group_id: str, *, invite_code: str, expires_ms: int) -> None:
    """
    Give a group a new invite code.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the user did not create it.
        Conflict: If another group has that code.
    """
    group = require_member(conn, user, group_id)
    creator = conn.execute(select(t.groups.c.creator).where(t.groups.c.id == group)).scalar_one()
    if creator != user:
        raise Forbidden("Only the creator of the group makes invite codes.")
    taken = exists().where(t.groups.c.invite_code == invite_code)
    if conn.execute(select(taken)).scalar_one():
        raise Conflict("The invite code that was drawn is in use. Try again.")
    try:
        conn.execute(
            update(t.groups).where(t.groups.c.id == group).values(invite_code=invite_code, invite_expires_ms=expires_ms)
        )
    except IntegrityError as exc:
        # Two servers at once: the other one's code was first.
        raise Conflict("The invite code that was drawn is in use. Try again.") from exc


# Chapter: threads


def thread_group(conn: Connection, thread_id: str) -> GroupId | None:
    """Return the group that a thread is in."""
    found = conn.execute(
        select(t.groups.c.group_id)
        .join(t.threads, t.threads.c.group == t.groups.c.id)
        .where(t.threads.c.thread_id == thread_id)
    ).scalar()
    return None if found is None else GroupId(found)


def _threads() -> Select[Any]:
    return (
        select(
            t.threads.c.id,
            t.threads.c.thread_id,
            t.groups.c.group_id,
            t.users.c.user_id.label("author_id"),
            t.threads.c.author_username,
            t.threads.c.encrypted_title,
            t.threads.c.encrypted_body,
            t.threads.c.root_message_id,
            t.threads.c.reply_count,
            t.threads.c.media_count,
            t.threads.c.created_ms,
        )
        .join(t.groups, t.groups.c.id == t.threads.c.group)
        .join(t.users, t.users.c.id == t.threads.c.author)
    )


def _thread(row: Row[*tuple[Any, ...]]) -> Thread:
    return Thread(
        thread_id=row.thread_id,
        group_id=row.group_id,
        author_id=row.author_id,
        author_username=row.author_username,
        encrypted_title=row.encrypted_title,
        encrypted_body=row.encrypted_body,
        root_message_id=row.root_message_id,
        reply_count=row.reply_count,
        media_count=row.media_count,
        created_at=wire.iso(row.created_ms),
    )


def threads(conn: Connection, user: int, group_id: str, *, limit: int, offset: int, newest_first: bool) -> Threads:
    """Answer `GET /api/groups/{group_id}/threads`; the order is the log's."""
    group = require_member(conn, user, group_id)
    total = conn.execute(select(func.count()).where(t.threads.c.group == group)).scalar_one()
    order = t.threads.c.seq.desc() if newest_first else t.threads.c.seq
    length = func.length(t.threads.c.encrypted_title) + func.length(t.threads.c.encrypted_body)
    length += func.length(t.threads.c.author_username) * _NAME_FACTOR
    keys = select(t.threads.c.id, length).where(t.threads.c.group == group).order_by(order)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(_threads().where(t.threads.c.id.in_(numbers)).order_by(order))
    return Threads(
        threads=[_thread(row) for row in rows],
        total_count=total,
        has_more=has_more,
    )


def require_thread(conn: Connection, user: int, thread_id: str) -> int:
    """
    Return the row number of a thread in a group that the user is in.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the user is not in its group.
    """
    group_id = thread_group(conn, thread_id)
    if group_id is None:
        raise no_thread()
    require_member(conn, user, group_id)
    return int(conn.execute(select(t.threads.c.id).where(t.threads.c.thread_id == thread_id)).scalar_one())


def thread(conn: Connection, user: int, thread_id: str) -> Thread:
    """Answer `GET /api/threads/{thread_id}`, but for its media."""
    number = require_thread(conn, user, thread_id)
    return _thread(conn.execute(_threads().where(t.threads.c.id == number)).one())


def replies(conn: Connection, user: int, thread_id: str, *, limit: int, offset: int) -> Replies:
    """Answer `GET /api/threads/{thread_id}/replies`, oldest first."""
    number = require_thread(conn, user, thread_id)
    total = conn.execute(select(func.count()).where(t.replies.c.thread == number)).scalar_one()
    length = func.length(t.replies.c.encrypted_body) + func.length(t.replies.c.author_username) * _NAME_FACTOR
    keys = select(t.replies.c.id, length).where(t.replies.c.thread == number).order_by(t.replies.c.seq)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(
        select(
            t.replies.c.reply_id,
            t.users.c.user_id.label("author_id"),
            t.replies.c.author_username,
            t.replies.c.encrypted_body,
            t.replies.c.message_id,
            t.replies.c.media_count,
            t.replies.c.created_ms,
        )
        .join(t.users, t.users.c.id == t.replies.c.author)
        .where(t.replies.c.id.in_(numbers))
        .order_by(t.replies.c.seq)
    )
    return Replies(
        replies=[
            ThreadReply(
                reply_id=row.reply_id,
                thread_id=thread_id,
                author_id=row.author_id,
                author_username=row.author_username,
                encrypted_body=row.encrypted_body,
                message_id=row.message_id,
                media_count=row.media_count,
                created_at=wire.iso(row.created_ms),
            )
            for row in rows
        ],
        total_count=total,
        has_more=has_more,
    )
