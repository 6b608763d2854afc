"""Evaluates log objects: what is found in them, and the processes in which that is done under limits."""
