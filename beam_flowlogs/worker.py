"""Program that runs the steps of a job: Beam's worker, which gives its messages back to the queue on a clean stop.

Beam's worker pool starts it, and ends it with a SIGTERM and ten seconds of grace:
`python -m apache_beam.runners.worker.worker_pool_main --service_port=50000 --container_executable=flowlogs-worker`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from types import FrameType

import grpc
from apache_beam.runners.worker.sdk_worker import SdkHarness

from beam_flowlogs.spare_memory import keep_freed_memory
from beam_flowlogs.visibility import VisibilityKeeper, keeper

_logger = logging.getLogger(__name__)

_RECEIVE_S = 3.0
"""More than a poll waits. What SQS hands to a closed connection would come only after its visibility."""
_ASK_S = 5.0


def main() -> None:
    """Work until the runner has no more work, or the pool ends this."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", required=True, help="the worker's name")
    parser.add_argument("--control_endpoint", required=True, help="where the runner gives work, as host:port")
    arguments, _ = parser.parse_known_args()  # a pool tells of more endpoints, which only containers need
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)  # after Beam's own
    os.dup2(2, 1)  # the pool leaves a pipe there that nobody reads: when it is full, who prints waits for ever
    signal.signal(signal.SIGTERM, _end)
    keep_freed_memory()  # before there are threads with arenas of their own
    try:
        SdkHarness(arguments.control_endpoint, worker_id=arguments.id).run()
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            _logger.exception("the runner has gone")
            os._exit(1)  # at once: threads that are left would keep messages hidden
    # The runner has closed the connection in order. The pool's SIGTERM comes soon.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end()


def _end(_number: int = 0, _frame: FrameType | None = None) -> None:
    try:
        give_back(keeper())
    except Exception:
        _logger.exception("messages were not given back to their queue: they come again when their visibility is over")
    finally:
        os._exit(0)  # as a SIGTERM does: other threads may wait for what never comes


def give_back(held: VisibilityKeeper) -> int:
    """Give back what this process holds, if its job has been stopped; return how much.

    A job that failed and starts again goes on with what is under way, and a message that is handed out anew each time
    would soon be given up.
    """
    held.close(_RECEIVE_S)
    if held.job is None or not held.job.is_stopped(_ASK_S):
        return 0
    count = held.give_back()
    _logger.warning("%d messages were given back to their queue", count)
    return count


if __name__ == "__main__":
    main()
