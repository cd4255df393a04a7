"""What the kernel knows of its clock: whether something keeps it right."""

from __future__ import annotations

import ctypes

TIME_ERROR = 5
"""The kernel's word for a clock that nothing keeps right."""


def kernel_clock() -> int | None:
    """Return the state of the kernel's clock (`adjtimex`, reading only), or None where it is not told."""
    try:
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512)))
    except (OSError, AttributeError):
        return None
    return state if state >= 0 else None
