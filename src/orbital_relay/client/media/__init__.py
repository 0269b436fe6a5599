"""
Media: encrypted files, uploaded in chunks and downloaded as a stream; both can be resumed.

To cancel a transfer, cancel its task. To resume an upload, call it again with the same `media_id`; to resume a download
into a file, call it again with the same file. The server releases an abandoned upload's room by itself.
"""

from __future__ import annotations

from orbital_relay.client.media.download import MEMORY_BYTES, Downloaded, download
from orbital_relay.client.media.transfer import OnTransfer, PathLike
from orbital_relay.client.media.upload import UploadInterrupted, upload

__all__ = ["MEMORY_BYTES", "Downloaded", "OnTransfer", "PathLike", "UploadInterrupted", "download", "upload"]
