"""Blob storage: the bytes of media (photos, videos), in a folder of this machine or in a bucket."""

from orbital_relay.blobs.folder import FolderBlobs
from orbital_relay.blobs.opening import open_blobs

__all__ = ["FolderBlobs", "open_blobs"]
