"""Keep sweeps in SQLite or PostgreSQL, and read them back as rows."""
