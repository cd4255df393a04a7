"""The plant that is not there: energy-level assets, their servers and closed loops."""
