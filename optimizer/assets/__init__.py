"""What each kind of asset adds to the problem: one file per kind, as in the simulator."""
