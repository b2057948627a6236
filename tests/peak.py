"""Peak resident memory of this process, for measurements in a process of their own (Linux)."""

from pathlib import Path


def peak_bytes() -> int:
    """Bytes. Not ``ru_maxrss``: that begins with the peak of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
