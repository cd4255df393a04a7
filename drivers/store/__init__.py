"""The embedded stores: SQLite files with one writer each."""
