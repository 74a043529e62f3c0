from __future__ import annotations

import pytest
import torch

from minigpt4.core.language.beam_search import AllBeamsStopped


@pytest.mark.parametrize(
    ("candidates", "is_over"),
    [
        ([[5, 835], [7, 835], [7, 8], [9, 9]], True),
        ([[5, 835], [7, 8], [9, 835], [9, 9]], False),
        ([[5, 835], [6, 2], [7, 835], [9, 9]], True),
        ([[2277, 29937], [7, 835], [9, 9], [9, 9]], False),
        ([[2277, 29937], [2277, 29937], [9, 9], [9, 9]], True),
    ],
)
def test_a_search_ends_when_all_beams_end_with_the_same_stop_word(
    candidates: list[list[int]], is_over: bool
) -> None:
    criterion = AllBeamsStopped([[835], [2277, 29937]], {2}, beams=2)
    answer = criterion(torch.tensor(candidates), torch.zeros(1))
    assert answer.tolist() == [is_over] * 4
