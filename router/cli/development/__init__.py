"""Commands for who writes a handler: run it here, send it events, see what it emits, begin a package for one."""
