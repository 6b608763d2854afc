"""Drills on a running system: what they do to it, the load that they are judged by, and one run of one."""
