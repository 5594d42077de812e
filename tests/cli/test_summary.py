"""The queries that `flowlogs summary` prints, for servers with and without security."""

from __future__ import annotations

import sys

import pytest

from beam_flowlogs.cli import app  # noqa: F401 - brings the modules of all commands
from beam_flowlogs.elastic.connection import ElasticsearchConfig

curl = sys.modules["beam_flowlogs.cli.summary"].curl  # the function of that name hides the module


@pytest.mark.parametrize(
    ("variables", "asking"),
    [
        ({"ELASTICSEARCH_URL": "http://127.0.0.1:9200/"}, ("curl", "http://127.0.0.1:9200")),
        (
            {"ELASTICSEARCH_URL": "https://a:1,https://b:2", "ELASTICSEARCH_API_KEY": "precious"},
            ('curl -H "Authorization: ApiKey $ELASTICSEARCH_API_KEY"', "https://a:1"),
        ),
        (
            {
                "ELASTICSEARCH_URL": "https://a:1",
                "ELASTICSEARCH_USERNAME": "me",
                "ELASTICSEARCH_PASSWORD": "precious",
                "ELASTICSEARCH_CA_CERTS": "/ca.crt",
            },
            (
                'curl -u "$ELASTICSEARCH_USERNAME:$ELASTICSEARCH_PASSWORD" --cacert "$ELASTICSEARCH_CA_CERTS"',
                "https://a:1",
            ),
        ),
        (
            {"ELASTICSEARCH_URL": "https://a:1", "ELASTICSEARCH_BEARER": "precious"},
            ('curl -H "Authorization: Bearer $ELASTICSEARCH_BEARER"', "https://a:1"),
        ),
    ],
)
def test_queries_go_with_the_credentials_of_the_environment_and_show_none(
    variables: dict[str, str], asking: tuple[str, str]
) -> None:
    found = curl(ElasticsearchConfig.from_environment(variables))

    assert found == asking
    assert "precious" not in str(found)
