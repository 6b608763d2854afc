"""Drills: what is done to which cell, when it is due, and whether the promises held. Pure."""
