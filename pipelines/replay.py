"""Beam program: put dead letters through again.

    python -m pipelines.replay --dead-letter s3://BUCKET/PREFIX --bucket NAME --runner=FlinkRunner ...

The same as ``flowlogs replay``; every option of Beam passes through. The wiring is ``beam_flowlogs.run.replay``.
"""

from beam_flowlogs.cli import run_alone
from beam_flowlogs.cli.replay import replay

if __name__ == "__main__":
    run_alone(replay)
