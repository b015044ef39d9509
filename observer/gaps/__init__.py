"""What is missing: how holes are found, told and filled."""
