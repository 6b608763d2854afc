"""Runs the command line: as `cellrouter`, and as `python -m router`."""

import gc
import signal


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word while there is nothing yet to end in order."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as of a background job
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # collecting while modules are imported finds nothing, and takes a tenth of the start
    from router.cli.main import main as command_line  # noqa: PLC0415 - it takes a moment, in which Ctrl-C may come

    command_line()


if __name__ == "__main__":
    main()
