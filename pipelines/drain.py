"""Beam program: index what a queue announces until it is empty.

    python -m pipelines.drain --queue-url URL --bucket NAME --dead-letter s3://BUCKET/PREFIX --runner=FlinkRunner ...

The same as ``flowlogs drain``; every option of Beam passes through. The wiring is ``beam_flowlogs.run.drain``.
"""

from beam_flowlogs.cli import run_alone
from beam_flowlogs.cli.drain import drain

if __name__ == "__main__":
    run_alone(drain)
