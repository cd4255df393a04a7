"""Field protocols and stores: how values come in from devices and go out to disk."""
