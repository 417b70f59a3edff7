"""Permutations of many digits as steps that each move few blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, pairwise, permutations

MAX_RANK = 4
"""No tensor of a higher rank is made: mobile GPU delegates refuse ranks 5 and 6."""

_EXACT_DIGITS = 6

Blocks = tuple[tuple[int, int], ...]


@lru_cache(maxsize=256)
def permutation_steps(perm: tuple[int, ...]) -> tuple[Blocks, ...]:
    """Factor a permutation into few that move at most MAX_RANK blocks of neighbours.

    `perm[i]` is the input position of output i. Each step lists, in output order, the blocks
    [start, stop) of its input. The fewest steps up to 6 digits (breadth first over arrangements);
    beyond, each step brings together as many digits as one can.
    """
    if len(perm) > _EXACT_DIGITS:
        return tuple(_greedy_steps(perm))
    start = tuple(range(len(perm)))
    came: dict[tuple[int, ...], tuple[tuple[int, ...], Blocks] | None] = {start: None}
    queue = deque([start])
    while queue and perm not in came:
        now = queue.popleft()
        for blocks in _block_moves(len(perm)):
            after = _moved(now, blocks)
            if after not in came:
                came[after] = (now, blocks)
                queue.append(after)
    steps: list[Blocks] = []
    at = perm
    while (link := came[at]) is not None:
        at, blocks = link
        steps.append(blocks)
    return tuple(reversed(steps))


def _greedy_steps(perm: tuple[int, ...]) -> Iterator[Blocks]:
    follows = set(pairwise(perm))
    now = tuple(range(len(perm)))

    def joined(digits: tuple[int, ...]) -> int:
        # The first digit in place counts too: otherwise a step could have nothing left to join.
        return sum(pair in follows for pair in pairwise(digits)) + (digits[0] == perm[0])

    while now != perm:
        now, blocks = max(
            ((_moved(now, b), b) for b in _block_moves(len(perm))), key=lambda move: joined(move[0])
        )
        yield blocks


def _moved(digits: tuple[int, ...], blocks: Blocks) -> tuple[int, ...]:
    return tuple(digits[i] for a, b in blocks for i in range(a, b))


def _block_moves(n: int) -> Iterator[Blocks]:
    """Every way to cut n positions into 2 to MAX_RANK blocks and reorder them; fewer blocks first."""
    for parts in range(2, min(n, MAX_RANK) + 1):
        for cuts in combinations(range(1, n), parts - 1):
            edges = (0, *cuts, n)
            blocks = list(pairwise(edges))
            for order in permutations(blocks):
                if list(order) != blocks:
                    yield order
