"""The command line: one module for each command, each with `register(app)`."""
