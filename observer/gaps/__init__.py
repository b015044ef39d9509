"""What is missing: holes, their ledger, and what fills them."""
