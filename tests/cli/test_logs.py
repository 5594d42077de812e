"""What is shown while a job runs."""

from __future__ import annotations

import logging

import pytest

from beam_flowlogs.cli.logs import progress


def test_progress_counts_what_is_set_aside_and_shows_other_warnings_as_they_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_flowlogs.cli.logs._ProgressLine._EVERY_S", -1.0)
    logger = logging.getLogger("beam_flowlogs.somewhere")
    with progress(verbose=False):
        logger.info("s3://b/k", extra={"documents": 1, "set_aside": 0})
        logger.warning("S3 does not answer, [trying] again")
        for _ in range(3):
            logger.warning("a message was set aside", extra={"set_aside": 2})
        logger.warning("s3://b/k: 10 rejected", extra={"documents": 5000, "set_aside": 10})

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "Warning" in line] == ["Warning: S3 does not answer, [trying] again"]
    assert lines[0] == "1 object, 1 document"
    assert lines[-1] == "2 objects, 5,001 documents, 16 set aside"
    assert logging.getLogger("beam_flowlogs").propagate


def test_verbose_leaves_it_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(verbose=True):
        logging.getLogger("beam_flowlogs.somewhere").warning("set aside", extra={"set_aside": 1})
    assert "set aside" not in capsys.readouterr().out
