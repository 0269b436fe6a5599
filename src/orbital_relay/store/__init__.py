"""The store: the log and its rows in SQL, with one schema and query text for SQLite and PostgreSQL."""
