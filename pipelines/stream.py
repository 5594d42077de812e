"""Beam program: index what queues announce, for ever.

    python -m pipelines.stream --queue-url URL --bucket NAME --job-endpoint HOST:8099 ...

The same as ``flowlogs stream``; every option of Beam passes through. The wiring is ``beam_flowlogs.run.stream``.
"""

from beam_flowlogs.cli import run_alone
from beam_flowlogs.cli.stream import StreamCommand, stream

if __name__ == "__main__":
    run_alone(stream, StreamCommand)
