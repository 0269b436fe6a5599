"""Users and groups for administrators: what they store, never content."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from orbital_relay.errors import UsernameTaken
from orbital_relay.model import GroupId, UserId
from orbital_relay.ports import Census, GroupSummary, Storage, UserSummary
from orbital_relay.store import tables as t
from orbital_relay.store.media import COUNTED

_u = t.users.c


def users(
    conn: Connection, *, named: str | None = None, search: str = "", limit: int | None = None, offset: int = 0
) -> list[UserSummary]:
    """Return users, those with a part of the name, or the one with that name or id."""
    m = t.media.c
    stored = (
        select(m.uploader, func.count().label("media"), func.sum(m.received_bytes).label("media_bytes"))
        .where(m.state.in_(COUNTED))
        .group_by(m.uploader)
        .subquery()
    )
    opened = select(t.logins.c.user, func.count().label("logins")).group_by(t.logins.c.user).subquery()
    joined = select(t.members.c.user, func.count().label("groups")).group_by(t.members.c.user).subquery()
    query = (
        select(t.users, stored.c.media, stored.c.media_bytes, joined.c.groups, opened.c.logins)
        .outerjoin(stored, stored.c.uploader == _u.id)
        .outerjoin(opened, opened.c.user == _u.id)
        .outerjoin(joined, joined.c.user == _u.id)
        .where(_u.erased_ms.is_(None))
        .order_by(_u.id)
        .limit(limit)
        .offset(offset if limit is not None else None)
    )
    if "\0" in search or (named is not None and "\0" in named):
        return []
    if search:
        query = query.where(_u.username.icontains(search, autoescape=True))
    if named is not None:
        query = query.where(or_(_u.signup_name == named.lower(), _u.user_id == named))
    return [
        UserSummary(
            key=row.id,
            user_id=UserId(row.user_id),
            username=row.username,
            outside=row.password_hash is None,
            created_ms=row.created_ms,
            seen_ms=row.seen_ms,
            disabled_ms=row.disabled_ms,
            disabled_reason=row.disabled_reason or "",
            erase_ms=row.erase_ms,
            groups=row.groups or 0,
            stored=Storage(row.media or 0, int(row.media_bytes or 0)),
            admin=row.admin_ms is not None,
            logins=row.logins or 0,
        )
        for row in conn.execute(query)
    ]


def census(conn: Connection) -> Census:
    """Return how many users and groups there are, and how many events are kept."""
    g = t.groups.c
    # A log has no holes, so its length is known without counting rows; a sum of integers is a Decimal in PostgreSQL.
    found = conn.execute(select(func.count(), func.coalesce(func.sum(g.last_seq - g.floor_seq), 0))).one()
    users = conn.execute(select(func.count()).select_from(t.users).where(_u.erased_ms.is_(None))).scalar_one()
    return Census(users=users, groups=found[0], events=int(found[1]))


def groups(
    conn: Connection,
    *,
    group_id: str | None = None,
    member: int | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[GroupSummary]:
    """Return groups, the one with that id, or those of a user."""
    g, m = t.groups.c, t.media.c
    stored = (
        select(m.group, func.count().label("media"), func.sum(m.received_bytes).label("media_bytes"))
        .where(m.state.in_(COUNTED))
        .group_by(m.group)
        .subquery()
    )
    members = select(func.count()).where(t.members.c.group == g.id).scalar_subquery()
    threads = select(func.count()).where(t.threads.c.group == g.id, t.LIVE_THREADS).scalar_subquery()
    query = (
        select(
            t.groups,
            _u.username,
            members.label("members"),
            threads.label("threads"),
            stored.c.media,
            stored.c.media_bytes,
        )
        .join(t.users, _u.id == g.creator)
        .outerjoin(stored, stored.c.group == g.id)
        .order_by(g.id)
        .limit(limit)
        .offset(offset if limit is not None else None)
    )
    if group_id is not None:
        query = query.where(g.group_id == group_id)
    if member is not None:
        query = query.where(g.id.in_(select(t.members.c.group).where(t.members.c.user == member)))
    return [
        GroupSummary(
            key=row.id,
            group_id=GroupId(row.group_id),
            creator=row.username,
            created_ms=row.created_ms,
            last_ms=row.last_stamp_ms,
            last_seq=row.last_seq,
            members=row.members,
            threads=row.threads,
            stored=Storage(row.media or 0, int(row.media_bytes or 0)),
        )
        for row in conn.execute(query)
    ]


def group_members(conn: Connection, group: int) -> list[tuple[str, str, int]]:
    """Return the members of a group: name, id and when each joined."""
    rows = conn.execute(
        select(_u.username, _u.user_id, t.members.c.joined_ms)
        .join(t.members, t.members.c.user == _u.id)
        .where(t.members.c.group == group)
        .order_by(t.members.c.joined_seq)
    )
    return [(row.username, row.user_id, row.joined_ms) for row in rows]


def set_password(conn: Connection, user: int, password_hash: str) -> None:
    """Give an account another password."""
    conn.execute(update(t.users).where(_u.id == user).values(password_hash=password_hash))


def rename(conn: Connection, user: int, username: str) -> None:
    """
    Give an account another name.

    Raises:
        UsernameTaken: If another account has it, in whatever case.
    """
    name = username.lower()
    taken = UsernameTaken(f"The username {username} is taken. Choose another.")
    if conn.execute(select(_u.id).where(_u.signup_name == name, _u.id != user)).one_or_none() is not None:
        raise taken
    try:
        conn.execute(update(t.users).where(_u.id == user).values(username=username, signup_name=name))
    except IntegrityError as exc:
        # A sign-up at the same moment was first.
        raise taken from exc


def disable(conn: Connection, user: int, *, reason: str, at_ms: int) -> None:
    """Refuse an account's logins and tokens."""
    conn.execute(update(t.users).where(_u.id == user).values(disabled_ms=at_ms, disabled_reason=reason))


def enable(conn: Connection, user: int) -> None:
    """Accept an account's logins and new tokens again."""
    conn.execute(update(t.users).where(_u.id == user).values(disabled_ms=None, disabled_reason=None))


def is_admin(conn: Connection, user: int) -> bool:
    """Return whether a user is a server administrator and not disabled."""
    found = select(_u.id).where(_u.id == user, _u.admin_ms.is_not(None), _u.disabled_ms.is_(None))
    return conn.execute(found).one_or_none() is not None


def set_admin(conn: Connection, user: int, *, at_ms: int | None) -> None:
    """Grant or revoke a user's role as server administrator."""
    conn.execute(update(t.users).where(_u.id == user).values(admin_ms=at_ms))


def note_seen(conn: Connection, users: Collection[int], *, at_ms: int) -> None:
    """Note when users were last here."""
    conn.execute(update(t.users).where(_u.id.in_(users)).values(seen_ms=at_ms))
