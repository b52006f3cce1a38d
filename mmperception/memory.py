# SPDX-License-Identifier: Apache-2.0
"""
What becomes of freed memory: kept while frames are computed, given back when a node stops.

A layer's result of several megabytes would otherwise be a fresh mapping each time, whose pages the
system clears one by one: an eighth of the network's time. And what each thread has kept would add
50 MB whenever a node goes round its states under load. Source: mallopt(3) and malloc_trim(3) of
glibc; other C libraries do without.
"""

import ctypes
import gc

# Parameters of mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Blocks up to this size are not mapped afresh (glibc takes no more), and this much free memory at
# the end of the heap is kept.
LARGEST_KEPT, KEPT = 32 << 20, 512 << 20


def keep_freed():
    """Let freed memory be used again by this process without going through the system."""
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def give_back():
    """Free what only cycles hold, and return what is free to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
