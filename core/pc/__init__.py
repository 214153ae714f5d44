"""What this PC is doing and what may be used of it."""
