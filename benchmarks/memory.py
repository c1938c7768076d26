"""Memory of a process and all that descend from it, as proportional set size: what is shared counts once."""

import subprocess
import threading
from pathlib import Path

__all__ = ["Peak", "memory_bytes"]


def tree(root: int) -> list[int]:
    """The process `root` and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    ours = {root}
    while grown := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= grown
    return sorted(ours)


def memory_bytes(root: int) -> int:
    """Of `root` and its descendants together."""
    total = 0
    for pid in tree(root):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


class Peak(threading.Thread):
    """Looks every two seconds, as long as the process lives; `bytes` is the most that was seen."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self._process, self.bytes = process, 0

    def run(self) -> None:
        while self._process.poll() is None:
            self.bytes = max(self.bytes, memory_bytes(self._process.pid))
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                continue
