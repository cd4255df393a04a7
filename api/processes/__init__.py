"""The processes of the edge service, each `python -m api.processes.NAME`."""
