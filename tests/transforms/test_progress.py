"""A message is done when all that was made from it is durable, in whatever order that becomes known."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import pytest

from beam_flowlogs.transforms.progress import Progress

RECEIVED = Progress("https://sqs/q", "receipt", announced=2, sent_ms=5)
WHOLE = (RECEIVED, Progress(indexed=1, parts=2), Progress(indexed=1), Progress(merged=1), Progress(merged=1))


@pytest.mark.parametrize(
    "order", list(permutations(WHOLE)), ids=lambda order: "".join(str(WHOLE.index(at)) for at in order)
)
def test_a_message_is_done_with_its_last_piece_and_not_before(order: tuple[Progress, ...]) -> None:
    known = Progress()
    for piece in order[:-1]:
        known = known.plus(piece)
        assert not known.done

    known = known.plus(order[-1])

    assert known.done
    assert (known.queue_url, known.receipt, known.sent_ms) == ("https://sqs/q", "receipt", 5)


def test_progress_crosses_a_shuffle_unchanged() -> None:
    known = reduce(Progress.plus, WHOLE)

    assert Progress.decode(known.encode()) == known


def test_state_that_an_older_version_has_saved_can_be_read() -> None:
    assert Progress.decode(b'["https://sqs/q","receipt",2,1,2,0]') == RECEIVED._replace(
        indexed=1, parts=2, sent_ms=0
    )  # fmt: skip
