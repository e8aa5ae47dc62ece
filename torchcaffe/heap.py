"""Keep the memory that one pass frees for the next one."""
import ctypes
import functools
import os

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # numbers of mallopt's parameters, from malloc.h
KEPT = 256 * 2 ** 20  # bytes at the end of the heap that are not given back


@functools.cache
def keep() -> None:
    """Let glibc's malloc take large arrays from its heap, not from the system, and give little of it back; once.

    By default it gets each array of more than 32 MB from the system and gives it back when freed. The system clears such
    memory page by page, in every pass anew, which took a seventh of the time of VGG-GAP's forward pass (docs/performance.md).
    Does nothing where a MALLOC_ variable says what malloc is to do, or malloc is not glibc's.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, KEPT)
