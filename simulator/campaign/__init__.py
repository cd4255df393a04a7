"""The fault campaign: seeded runs of the real controller in a plant that fails, with invariants checked at every step."""
