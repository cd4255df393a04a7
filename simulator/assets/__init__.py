"""What each kind of asset does at the energy level: one file a kind, named like it."""
