"""Across the queue, acknowledged: lanes, outbox, inbox."""
