"""Snapshot to record: validation, guard, enrichment. Pure."""
