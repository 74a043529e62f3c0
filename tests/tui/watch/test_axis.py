"""Axes: positions keep the order of values, and ticks are round numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minigpt4.tui.watch.axis import Scale, step_text, tick_text

numbers = st.floats(-1e9, 1e9)


@given(numbers, st.floats(1e-6, 1e9), st.integers(1, 400), st.lists(numbers, min_size=2))
def test_places_keep_the_order_of_values_and_lie_on_the_axis(
    low: float, width: float, length: int, values: list[float]
) -> None:
    assume(low + width > low)
    scale = Scale(low, low + width, length)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place < length for place in places)
    assert (scale.place(low), scale.place(low + width)) == (0, length - 1)


@pytest.mark.parametrize("is_log", [False, True])
def test_a_place_round_trips_through_its_value(is_log: bool) -> None:
    scale = Scale(1, 20_000, 160, is_log)
    assert [scale.place(scale.value(place)) for place in range(160)] == list(range(160))


def test_equal_ratios_are_equal_ways_on_a_logarithmic_axis() -> None:
    scale = Scale(1, 10_000, 401, is_log=True)
    assert [scale.place(value) for value in (1, 10, 100, 1000, 10_000)] == [0, 100, 200, 300, 400]
    assert scale.place(0) == 0


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_ticks_are_few_round_even_and_within_the_axis(low: float, width: float, limit: int) -> None:
    scale = Scale(low, low + width, 100)
    ticks = scale.ticks(limit)
    assert len(ticks) <= limit
    slack = width * 1e-6
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)
    if len(ticks) > 1:
        apart = ticks[1] - ticks[0]
        mantissa = apart / 10 ** math.floor(math.log10(apart) + 1e-9)
        assert min(abs(mantissa - round_) for round_ in (1, 2, 2.5, 5, 10)) < 1e-3


def test_ticks_of_a_logarithmic_axis_are_those_of_its_decades() -> None:
    assert Scale(1, 150, 100, is_log=True).ticks(8) == [1, 2, 5, 10, 20, 50, 100]
    assert Scale(1, 20_000, 100, is_log=True).ticks(6) == [1, 10, 100, 1000, 10_000]
    assert Scale(1, 1e12, 100, is_log=True).ticks(4) == [1, 1e4, 1e8, 1e12]


def test_numbers_have_as_many_decimals_as_tell_neighbours_apart() -> None:
    assert [tick_text(value, 0.5) for value in (2, 2.5)] == ["2.0", "2.5"]
    assert [tick_text(value, 0.25) for value in (0, 2.25)] == ["0", "2.25"]
    assert tick_text(300, 100) == "300"
    assert [tick_text(value, 1e-5) for value in (1e-4, 1.5e-5)] == ["1e-4", "1.5e-5"]
    assert [step_text(step) for step in (0, 999, 1000, 1500, 20_000, 5_120_000)] == [
        "0",
        "999",
        "1k",
        "1.5k",
        "20k",
        "5.12M",
    ]
