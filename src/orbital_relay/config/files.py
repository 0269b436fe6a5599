"""Files that settings name: the data folder, the generated secret, an identity provider's public key."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from orbital_relay.config.settings import Settings
from orbital_relay.errors import SettingsInvalid
from orbital_relay.ownership import make_private


def make_data_dir(settings: Settings) -> Path:
    """
    Make the data folder, open to its owner alone, unless it is there; what is written into it is private either way.

    Raises:
        SettingsInvalid: If it cannot be made, or something else has its name.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsInvalid(f"The data folder {folder} cannot be created: {exc.strerror}.") from exc
    make_private(folder / "media", like=folder)
    return folder


def secret_bytes(text: str | None) -> bytes | None:
    """Return a secret of the settings as bytes; what is no UTF-8 in the environment stays as it was there."""
    return None if text is None else text.encode("utf-8", "surrogateescape")


def read_jwt_secret(settings: Settings) -> bytes:
    """
    Return the tokens' secret: the one that was given, else the one kept in the data folder, made on first use.

    Two servers that start at once in one folder end with the same secret.

    Raises:
        SettingsInvalid: If the file can be neither read nor made, is empty, or could be read by others.
    """
    given = secret_bytes(settings.jwt_secret)
    if given is not None:
        return given
    path = make_data_dir(settings) / "jwt-secret"
    try:
        if not path.exists():
            _make_secret(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SettingsInvalid(
                f"{path} can be read by others, so the tokens' secret may be known; "
                f"make it yours alone (chmod 600 {path}), or delete it and all users sign in again."
            )
        secret = path.read_bytes().strip()
    except OSError as exc:
        raise SettingsInvalid(f"The tokens' secret {path} cannot be used: {exc.strerror}.") from exc
    if len(secret) < 32:
        raise SettingsInvalid(f"{path} contains no secret of Orbital; delete it to generate a new one.")
    return secret


def _make_secret(path: Path) -> None:
    """Write a new secret so that the file is never there without it, and never readable by others."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL with a mode: no moment in which the file exists and others may read it.
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # link() fails where the name exists: of two servers that start at once, one secret stays.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        make_private(path, like=path.parent)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put the folder's entries on the disk: a secret lost with the power would sign everybody out."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_jwt_public_key(settings: Settings) -> bytes | None:
    """
    Return the PEM text of the outside provider's key, or None when none is configured.

    Raises:
        SettingsInvalid: If the file cannot be read, or holds a private key.
    """
    path = settings.jwt_public_key_file
    if path is None:
        return None
    try:
        pem = path.read_bytes()
    except OSError as exc:
        raise SettingsInvalid(f"ORBITAL_JWT_PUBLIC_KEY_FILE, {path}, cannot be read: {exc.strerror}.") from exc
    if b"PRIVATE KEY" in pem:
        raise SettingsInvalid(
            f"ORBITAL_JWT_PUBLIC_KEY_FILE, {path}, holds a private key; this server needs the public one alone."
        )
    return pem
