"""Requests about messages, threads and replies."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import (
    annotations_path,
    given,
    key_or_new,
    message_body,
    reply_body,
    reply_path,
    segment,
    thread_body,
)
from orbital_relay.client.errors import BadAnswer
from orbital_relay.client.http import Http

Sort = responses.Sort
"""`created_desc`, `created_asc`, or `active_desc`: the last active first."""


class ThreadRequests(Http):
    """Messages, threads and replies: post, read a page, iterate."""

    # Public: messages

    async def post_message(
        self,
        conversation_id: str,
        encrypted_envelope: str,
        *,
        timestamp: int,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.MessageSent:
        """
        Post a message; `Orbital.send` continues until the server has it.

        Args:
            conversation_id: The group's id.
            encrypted_envelope: The envelope, base64.
            timestamp: The sender's clock, milliseconds since the Unix epoch.
            if_epoch: The group's epoch that the envelope was encrypted for.
            idempotency_key: The same key for every try of the same post; a new one when None.

        Raises:
            ApiError: With code `EPOCH_CHANGED` and `details["epoch"]` when the group's epoch is above `if_epoch`.
        """
        body = message_body(conversation_id, encrypted_envelope, timestamp, if_epoch)
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/v1/messages", responses.MessageSent, body=body, key=key)

    async def messages(
        self, *, since: int | None = None, limit: int | None = None, conversation_id: str | None = None
    ) -> responses.Messages:
        """
        Read a page of the messages of all groups, or of one, oldest first.

        Args:
            since: Only those stamped later than this, milliseconds since the epoch; None from the oldest kept.
            limit: 1 to 500; 100 when left out.
            conversation_id: One group's id.
        """
        query = {"since": since, "limit": limit, "conversation_id": conversation_id}
        return await self._call("GET", "/v1/messages", responses.Messages, query=query)

    async def iter_messages(
        self, *, since: int | None = None, conversation_id: str | None = None
    ) -> AsyncIterator[responses.Message]:
        """Iterate over the messages after a stamp, oldest first, a page at a time."""
        while True:
            page = await self.messages(since=since, conversation_id=conversation_id)
            for message in page.messages:
                yield message
            if not page.has_more or not page.messages:
                return
            since = page.messages[-1].server_timestamp  # A page never ends between two of one stamp.

    async def delete_message(self, message_id: str) -> None:
        """
        Delete a message; for its sender, and those who look after its group. A second time changes nothing.

        Raises:
            ApiError: With code `NOT_FOUND` when there is no such message, `FORBIDDEN` when it is another member's.
        """
        await self._act("DELETE", f"/v1/messages/{segment(message_id)}")

    # Public: threads

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with its replies, annotations and media; for its author, otherwise as `delete_message`."""
        await self._act("DELETE", f"/api/threads/{segment(thread_id)}")

    async def delete_reply(self, reply_id: str) -> None:
        """Delete a reply with its annotations; for its author, otherwise as `delete_message`."""
        await self._act("DELETE", f"/api/replies/{segment(reply_id)}")

    async def create_thread(
        self,
        group_id: str,
        encrypted_title: str,
        encrypted_body: str,
        *,
        root_message_id: str | None = None,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ThreadCreated:
        """Open a thread; `Orbital.open_thread` continues until the server has it. `if_epoch` as in `post_message`."""
        body = thread_body(group_id, encrypted_title, encrypted_body, root_message_id, if_epoch)
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/api/threads", responses.ThreadCreated, body=body, key=key)

    async def threads(
        self, group_id: str, *, limit: int | None = None, offset: int | None = None, sort: Sort | None = None
    ) -> responses.Threads:
        """Read a page of a group's threads: at most 100, 50 when left out, the newest first when left out."""
        query = {"limit": limit, "offset": offset, "sort": sort}
        return await self._call("GET", f"/api/groups/{segment(group_id)}/threads", responses.Threads, query=query)

    async def iter_threads(self, group_id: str, *, sort: Sort | None = None) -> AsyncIterator[responses.Thread]:
        """Iterate over a group's threads, a page at a time; each once, also when some are opened meanwhile."""
        path, seen = f"/api/groups/{segment(group_id)}/threads", set[str]()
        pages = self._pages(path, responses.Threads, lambda page: len(page.threads), query={"sort": sort})
        async for page in pages:
            for thread in page.threads:
                if thread.thread_id not in seen:
                    seen.add(thread.thread_id)
                    yield thread

    async def thread(self, thread_id: str) -> responses.ThreadWithMedia:
        """Read one thread, with its media."""
        return await self._call("GET", f"/api/threads/{segment(thread_id)}", responses.ThreadWithMedia)

    # Public: replies

    async def replies(
        self, thread_id: str, *, limit: int | None = None, offset: int | None = None
    ) -> responses.Replies:
        """Read a page of a thread's replies, oldest first."""
        query = {"limit": limit, "offset": offset}
        return await self._call("GET", f"/api/threads/{segment(thread_id)}/replies", responses.Replies, query=query)

    async def iter_replies(self, thread_id: str) -> AsyncIterator[responses.Reply]:
        """Iterate over a thread's replies, oldest first, a page at a time."""
        path = f"/api/threads/{segment(thread_id)}/replies"
        async for page in self._pages(path, responses.Replies, lambda page: len(page.replies)):
            for reply in page.replies:
                yield reply

    async def create_reply(
        self,
        thread_id: str,
        encrypted_body: str,
        *,
        message_id: str | None = None,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ReplyCreated:
        """Reply in a thread; `Orbital.reply` continues until the server has it. `if_epoch` as in `post_message`."""
        body = reply_body(encrypted_body, message_id, if_epoch)
        key = key_or_new(idempotency_key)
        return await self._call("POST", reply_path(thread_id), responses.ReplyCreated, body=body, key=key)

    # Public: annotations

    async def post_annotation(
        self,
        thread_id: str,
        target_id: str,
        encrypted_body: str,
        *,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.AnnotationCreated:
        """
        Annotate a thread, or a reply or a medium in it: a reaction, an edit, as the clients agree.

        Args:
            thread_id: The thread.
            target_id: The thread's own id, or that of a reply or a stored medium in it.
            encrypted_body: Base64.
            if_epoch: As in `post_message`.
            idempotency_key: The same key for every try; a new one when None.
        """
        body = given({"target_id": target_id, "encrypted_body": encrypted_body, "if_epoch": if_epoch})
        key, path = key_or_new(idempotency_key), annotations_path(thread_id)
        return await self._call("POST", path, responses.AnnotationCreated, body=body, key=key)

    async def iter_annotations(self, thread_id: str, *, after_seq: int = 0) -> AsyncIterator[responses.Annotation]:
        """Iterate over a thread's annotations with a number above `after_seq`, oldest first, a page at a time."""
        path = annotations_path(thread_id)
        while True:
            page = await self._call("GET", path, responses.Annotations, query={"after_seq": after_seq or None})
            for annotation in page.annotations:
                if annotation.seq <= after_seq:
                    raise BadAnswer(f"The list of annotations holds number {annotation.seq} after {after_seq}.")
                after_seq = annotation.seq
                yield annotation
            if not page.has_more or not page.annotations:
                return
