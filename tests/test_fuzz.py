"""What is fuzzed by the bench reads its good inputs, and pieces of them, with no exception that it does not promise."""

import pytest

from tests.fuzz_targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_inputs_and_cut_ones_raise_nothing_unpromised(target):
    for seed in target.seeds:
        for end in (len(seed), len(seed) // 2, 1, 0):
            target.read(seed[:end])
