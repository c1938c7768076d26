from pathlib import Path

import numpy as np
import pytest

from fedtiny.memory import forget_peak, peak_bytes

BIG = 100_000_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_is_that_since_it_was_forgotten() -> None:
    forget_peak()
    before = peak_bytes()
    assert before is not None
    held = np.ones(BIG, dtype=np.uint8)
    during = peak_bytes()
    del held
    after = peak_bytes()
    assert during is not None
    assert after is not None
    assert during - before >= 0.95 * BIG
    assert after >= during - 0.05 * BIG  # Linux counts in strides
    forget_peak()
    anew = peak_bytes()
    assert anew is not None
    assert anew <= after - 0.8 * BIG
