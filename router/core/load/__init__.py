"""What a stress run sends, what is measured of it, and what that says: all of it pure."""
