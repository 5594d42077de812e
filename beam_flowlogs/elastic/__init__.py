"""Elasticsearch: connection, index templates and everything derived from them."""
