"""The C library's allocator, told that this process will ask for the same large buffers again and again."""

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # parameters of mallopt(3)
_LARGEST = 2**30  # bytes; buffers up to this come from the heap and go back to it


def keep_freed_buffers() -> bool:
    """Let freed memory stay with the process (glibc only, elsewhere nothing happens).

    By default glibc returns every buffer above 32 MB to the kernel, which then clears its pages anew in the next
    training step: on two cores that costs up to half of the time of a generator's step (``benchmarks/allocator.py``).

    Returns:
        Whether the allocator took it.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
