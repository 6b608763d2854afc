"""Runs the command line as `python -m router`."""

from router.cli.main import main

main()
