"""The one database engine: PostgreSQL, embedded or by URL, and the project's own tables in it."""
