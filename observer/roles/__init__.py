"""What each process does: collector, writer, janitor."""
