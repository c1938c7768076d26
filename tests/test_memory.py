"""The peak of a process's memory: of a fresh one, since another test's freed memory may be used again in this one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BIG = 100_000_000

PROGRAM = f"""
import json
import numpy as np
from fedtiny.memory import forget_peak, peak_bytes
forget_peak()
told = [peak_bytes()]
held = np.ones({BIG}, dtype=np.uint8)
told.append(peak_bytes())
del held
told.append(peak_bytes())
forget_peak()
told.append(peak_bytes())
print(json.dumps(told))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_is_that_since_it_was_forgotten() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    before, during, after, anew = json.loads(done.stdout)
    assert during - before >= 0.95 * BIG
    assert after >= during - 0.05 * BIG  # Linux counts in strides
    assert anew <= after - 0.8 * BIG
