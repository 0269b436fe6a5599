"""Files of a group over the SDK: sealed on the disk, uploaded for one epoch, downloaded and opened."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from orbital_relay.client import ApiError, Orbital, Unreachable
from orbital_relay.client.media import PathLike, UploadInterrupted, download, upload
from orbital_relay.client.media.upload import CHUNK_BYTES
from orbital_relay.client.responses import MediaStored
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.media import MediaInfo, open_file, seal_file

NO_IV: Final = "AA=="
"""What the server wants as an IV: every piece of the file has a nonce of its own."""


class SealedFile(msgspec.Struct, frozen=True):
    """A file that is ready to be uploaded, and what opens it."""

    media_id: str
    path: str
    info: MediaInfo


async def seal(media_id: str, source: str | PathLike, sealed: str | PathLike, *, name: str, type: str) -> SealedFile:
    """Seal a file under a key of its own into another file, which is on the disk when this returns."""

    def work() -> SealedFile:
        with Path(source).open("rb") as plain, Path(sealed).open("wb") as target:
            key, digest = seal_file(media_id, plain, target)
            target.flush()
            os.fsync(target.fileno())
        path = str(Path(sealed).absolute())
        return SealedFile(media_id, path, MediaInfo(key=key, sha256=digest, type=type, name=name))

    return await asyncio.to_thread(work)


async def post_file(orbital: Orbital, body: dict[str, Any], *, if_epoch: int | None) -> None:
    """
    Upload a sealed file for an epoch; the file is deleted when the server has it.

    The first chunk goes alone: the server compares it with what the upload began with. An upload that an earlier seal
    of the draft began is deleted, so that no metadata for former members is completed.

    Raises:
        E2eeError: `epoch_changed`; `conflict` when an earlier seal was accepted; `not_found` when the file is gone.
        ApiError: If the server refuses it for another reason.
        Unreachable: If there is no answer of the server's.
    """
    api, path, media_id = orbital.api, Path(body["sealed"]), body["media_id"]
    fields = {
        "thread_id": body["thread_id"],
        "encrypted_metadata": body["encrypted_metadata"],
        "encryption_iv": NO_IV,
        "media_id": media_id,
        "if_epoch": if_epoch,
    }
    try:
        size, first = await asyncio.to_thread(_first_chunk, path)
    except FileNotFoundError:
        if await _is_there(orbital, media_id):
            return
        raise E2eeError("not_found", f"the sealed file {path} is gone before the server had it") from None
    total = -(-size // CHUNK_BYTES)
    try:
        stored = None
        while stored is None:
            try:
                stored = await api.upload_chunk(chunk_index=0, total_chunks=total, chunk=first, **fields)
            except ApiError as exc:
                if exc.code != "INVALID_CHUNK" or exc.details.get("field") != "encrypted_metadata":
                    raise
                if await _is_there(orbital, media_id):
                    raise E2eeError("conflict", f"the medium {media_id} was accepted with an earlier seal") from exc
                await api.delete_media(media_id)
        if not isinstance(stored, MediaStored):
            await upload(api, source=path, **fields)
    except ApiError as exc:
        if exc.code != "EPOCH_CHANGED":
            raise
        await api.delete_media(media_id)
        raise E2eeError("epoch_changed", exc.message, epoch=exc.details.get("epoch")) from exc
    except UploadInterrupted as exc:
        raise Unreachable(str(exc)) from exc
    await asyncio.to_thread(path.unlink)


def _first_chunk(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, file.read(CHUNK_BYTES)


async def _is_there(orbital: Orbital, media_id: str) -> bool:
    """Return whether the server has a medium that is complete."""
    try:
        await orbital.api.media_info(media_id)
    except ApiError as exc:
        if exc.status == 404:
            return False
        raise
    return True


async def fetch(orbital: Orbital, media_id: str, info: MediaInfo, to: str | PathLike) -> None:
    """
    Download a medium, and open it into a file, which is written only when every byte is the uploader's.

    Raises:
        E2eeError: `cannot_open` when it is not the file that the info names.
        ApiError: `GONE` when the server has deleted it.
        Unreachable: If the server cannot be reached for some minutes.
    """
    target = Path(to)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        sealed, opened = Path(folder) / "sealed", Path(folder) / "opened"
        await download(orbital.api, media_id, to=sealed)

        def work() -> None:
            with sealed.open("rb") as source, opened.open("wb") as plain:
                open_file(media_id, info, source, plain)
            opened.replace(target)

        await asyncio.to_thread(work)
