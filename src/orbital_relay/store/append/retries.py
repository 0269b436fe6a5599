"""Reasons for which a transaction has to be done again from its beginning."""

from __future__ import annotations


class KeyTaken(Exception):
    """Another server stored a first answer under one of the keys meanwhile: begin again, and it is found."""


class ThreadDeleted(Exception):
    """A thread that is replied in was deleted since it was remembered: begin again, and it is missing."""
