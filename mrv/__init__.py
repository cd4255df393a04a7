"""Measurement, reporting and verification of emission reductions from an exported ledger."""
