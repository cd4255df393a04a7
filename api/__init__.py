"""The shell: command line, assembly, processes and the web."""
