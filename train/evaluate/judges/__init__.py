"""Models that complete a text: judges of answers, repairers of descriptions, and baselines."""
