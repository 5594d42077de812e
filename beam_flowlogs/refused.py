"""What is derived from records and was refused by Elasticsearch, into the dead letters: roll-ups and alerts."""

from __future__ import annotations

import logging

from beam_flowlogs.bulk import ItemRejected
from beam_flowlogs.reject import DeadLetters, Reject, item_file

_logger = logging.getLogger(__name__)


def set_aside(dead_letters: DeadLetters, stage: str, name: str, item: ItemRejected) -> str:
    """Write the bulk item of a roll-up or an alert (``stage``) with the id ``name``; return where it is, durably."""
    who = f"Elasticsearch answers {item.status}: " if item.status else ""
    detail = f"{stage} {name}: {who}{item.detail}"
    _logger.warning("%s", detail, extra={"set_aside": 1})
    reject = Reject(stage, item.reason, detail, data=item.data)
    return dead_letters.write(item_file(stage, name, item.data), [reject])
