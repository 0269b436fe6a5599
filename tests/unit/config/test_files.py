"""The files that settings name, and the secret that is made."""

from __future__ import annotations

import stat
import threading

import pytest

from orbital_relay import config
from orbital_relay.config import Settings
from orbital_relay.errors import SettingsInvalid


def test_the_secret_is_generated_once_and_kept(tmp_path):
    """[SET14] Without JWT_SECRET a secret is created in the data folder, readable by its owner only, and reused."""
    settings = Settings(data_dir=tmp_path / "deep" / "var")

    first = config.read_jwt_secret(settings)

    assert len(first) >= 32
    assert config.read_jwt_secret(settings) == first
    path = tmp_path / "deep" / "var" / "jwt-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert config.read_jwt_secret(Settings(data_dir=tmp_path / "other")) != first


def test_a_configured_secret_is_used(tmp_path):
    """[SET15] JWT_SECRET takes precedence over the stored secret, byte for byte."""
    settings = Settings(data_dir=tmp_path / "var", jwt_secret="schlüssel")

    assert config.read_jwt_secret(settings) == "schlüssel".encode()
    assert not (tmp_path / "var").exists()


def test_servers_that_start_together_share_one_secret(tmp_path):
    """[SET16] Sixteen threads that create the secret concurrently all get the same one."""
    settings = Settings(data_dir=tmp_path / "var")
    together = threading.Barrier(16)
    found: list[bytes] = []

    def start() -> None:
        together.wait()
        found.append(config.read_jwt_secret(settings))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 16
    assert len(set(found)) == 1
    assert list((tmp_path / "var").iterdir()) == [tmp_path / "var" / "jwt-secret"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    """[SET17] A secret file with loose permissions stops the server; the error has the command that fixes them."""
    settings = Settings(data_dir=tmp_path)
    config.read_jwt_secret(settings)
    (tmp_path / "jwt-secret").chmod(mode)

    with pytest.raises(SettingsInvalid, match=r"can be read by others.*chmod 600"):
        config.read_jwt_secret(settings)


def test_a_secret_file_without_a_secret_is_refused(tmp_path):
    """[SET24] An empty secret file is never used as an empty secret."""
    path = tmp_path / "jwt-secret"
    path.touch(mode=0o600)

    with pytest.raises(SettingsInvalid, match="contains no secret of Orbital"):
        config.read_jwt_secret(Settings(data_dir=tmp_path))


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path):
    """[SET18] A file in place of the data folder is named in the error."""
    (tmp_path / "var").write_text("")

    with pytest.raises(SettingsInvalid, match=r"The data folder .*var cannot be created: File exists\."):
        config.read_jwt_secret(Settings(data_dir=tmp_path / "var"))


def test_a_secret_that_is_a_folder_is_refused(tmp_path):
    """[SET25] An unreadable secret file is named in the error."""
    (tmp_path / "jwt-secret").mkdir(mode=0o700)

    with pytest.raises(SettingsInvalid, match=r"jwt-secret cannot be used: Is a directory\."):
        config.read_jwt_secret(Settings(data_dir=tmp_path))


def test_the_public_key_file_is_read(tmp_path):
    """[SET19] The provider's key is read from its file; a missing file and a private key are refused."""
    pem = tmp_path / "key.pem"
    pem.write_bytes(b"-----BEGIN PUBLIC KEY-----\n")

    assert config.read_jwt_public_key(Settings()) is None
    assert config.read_jwt_public_key(Settings(jwt_public_key_file=pem)) == b"-----BEGIN PUBLIC KEY-----\n"
    with pytest.raises(SettingsInvalid, match="cannot be read: No such file"):
        config.read_jwt_public_key(Settings(jwt_public_key_file=tmp_path / "none.pem"))
    pem.write_bytes(b"-----BEGIN EC PRIVATE KEY-----\n")
    with pytest.raises(SettingsInvalid, match="holds a private key"):
        config.read_jwt_public_key(Settings(jwt_public_key_file=pem))
