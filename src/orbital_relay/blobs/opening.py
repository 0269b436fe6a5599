"""Open the blob storage that the settings name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from orbital_relay.errors import SettingsInvalid
from orbital_relay.ports import Blobs

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
from orbital_relay.blobs.bucket import BucketBlobs
from orbital_relay.blobs.folder import FolderBlobs

_folder: type[Blobs] = FolderBlobs


_bucket: type[Blobs] = BucketBlobs


# obstore's own patience is three minutes: longer than any client waits for an answer.
# An endpoint is asked over plain HTTP only where its address begins with http://, as one beside the server may.
_CLIENT: Final[ClientConfig] = {"connect_timeout": "5s", "timeout": "60s", "allow_http": True}
_RETRY: Final[RetryConfig] = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}


def open_blobs(url: str | None, *, folder: Path) -> Blobs:
    """
    Open the place where media are.

    Args:
        url: `s3://bucket/prefix`, or another address that obstore knows; None for a folder of this machine. Keys,
            region and endpoint of a bucket come from the store's own variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
        folder: That folder.

    Raises:
        SettingsInvalid: If the address cannot be used, or obstore is not installed.
    """
    if url is None:
        return FolderBlobs(folder)
    shown = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}{urlsplit(url).path}"
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise SettingsInvalid(
            f"Media in {shown} need obstore, which is not installed: pip install 'orbital-relay[media]'"
        ) from exc
    try:
        return BucketBlobs(from_url(url, client_options=_CLIENT, retry_config=_RETRY))
    except (BaseError, OSError, ValueError) as exc:
        raise SettingsInvalid(f"The media storage {shown} cannot be used: {exc}.") from exc
