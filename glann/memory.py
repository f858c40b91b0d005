"""Memory: how much is free, and an allocator told that the same large buffers will be asked for again and again."""

import contextlib
import ctypes
import sys
from pathlib import Path

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


def free_bytes(device: str) -> int | None:
    """Memory that a process can still take without swapping.

    Args:
        device: as torch names it; for ``cuda`` the memory of that GPU, for all others the computer's, which Linux
            containers may limit further.

    Returns:
        Bytes, or None where the system does not say.
    """
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):  # no Linux
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        group = Path("/sys/fs/cgroup")
        counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(counted["inactive_file"])  # which gives way
        found.append(max(0, int((group / "memory.max").read_text()) - used))
    return min(found, default=None)
