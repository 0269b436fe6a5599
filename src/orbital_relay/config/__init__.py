"""
Settings: the table, how it is read from options, environment and file, and its documentation.

Nothing else in the package reads the environment. The command line makes its options from `OPTIONS`.
"""

from __future__ import annotations

from orbital_relay.config.database import DatabaseAddress, Postgres, SqliteFile, without_credentials
from orbital_relay.config.doubts import doubts
from orbital_relay.config.files import make_data_dir, read_jwt_public_key, read_jwt_secret, secret_bytes
from orbital_relay.config.kinds import Network
from orbital_relay.config.loading import EffectiveSetting, in_force, load, take_service_variables
from orbital_relay.config.settings import OPTIONS, Option, Settings, options
from orbital_relay.config.sources import CONFIG_ENV

__all__ = [
    "CONFIG_ENV",
    "OPTIONS",
    "DatabaseAddress",
    "EffectiveSetting",
    "Network",
    "Option",
    "Postgres",
    "Settings",
    "SqliteFile",
    "doubts",
    "in_force",
    "load",
    "make_data_dir",
    "options",
    "read_jwt_public_key",
    "read_jwt_secret",
    "secret_bytes",
    "take_service_variables",
    "without_credentials",
]
