import pytest

from fedtiny.track.results import human_bytes, human_flops


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (999_600, "1 MB"), (5.5e9, "5.5 GB")],
)
def test_bytes_in_decimal_units(count: float, text: str) -> None:
    assert human_bytes(count) == text


def test_flops_in_decimal_units() -> None:
    assert human_flops(8.33e13) == "83.3 TFLOP"
    assert human_flops(2e16) == "20 PFLOP"
