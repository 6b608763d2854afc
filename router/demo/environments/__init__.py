"""Environments that run on this machine: as processes, or as a project of docker compose."""
