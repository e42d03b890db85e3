"""The store, tables, statistics, export."""
