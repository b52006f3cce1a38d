# SPDX-License-Identifier: Apache-2.0
"""
Freed memory back to the system, when a node stops working.

The buffers of a network stay, once freed, with the allocator of the thread that had them; each
activation has a new thread, and a node that goes round its states under load would grow by some
50 MB each time. Source: malloc_trim(3) of glibc; other C libraries do without.
"""

import ctypes
import gc


def give_back():
    """Free what only cycles hold, and return what is free to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
