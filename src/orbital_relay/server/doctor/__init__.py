"""Diagnosis of a server's environment: settings, files, database, Redis, clock, limits, network path."""
