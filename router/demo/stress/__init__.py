"""`cellrouter stress`: sends a load in an open loop, and reports what the system bears."""
