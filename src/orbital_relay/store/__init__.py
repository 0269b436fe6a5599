"""The log and its rows in SQL: one schema and one text of queries for SQLite and PostgreSQL."""
