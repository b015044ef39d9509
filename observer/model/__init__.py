"""What is true: layouts, snapshots, records, trading days. No I/O."""
