"""Who gets a record: the event bus and its sinks."""
