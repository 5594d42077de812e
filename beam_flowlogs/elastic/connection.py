"""How to reach Elasticsearch 8 or 9: a configuration without secrets, and one client per process made from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from elastic_transport.client_utils import parse_cloud_id
from elasticsearch import Elasticsearch

from beam_flowlogs import secret
from beam_flowlogs.bulk import BulkConfig, BulkWriter
from beam_flowlogs.bulk_request import SERIALIZERS, BulkNode

_once = threading.Lock()  # a cache alone lets two threads make the first one


@dataclass(frozen=True)
class ElasticsearchConfig:
    """Addresses and, by reference, credentials. Picklable; safe to log.

    `urls` ("https://host:9200", several for fail-over) or `cloud_id`. Credentials, at most one kind, each a reference
    that the worker resolves (see `secret.resolve`): `api_key` (the encoded form), `username` with `password`, where
    the name is no secret, or `bearer`. `request_timeout` in seconds; `http_compress` pays where the network is slow.
    """

    urls: tuple[str, ...] = ()
    cloud_id: str = ""
    api_key: str = ""
    username: str = ""
    password: str = ""
    bearer: str = ""
    ca_certs: str = ""
    verify_certs: bool = True
    http_compress: bool = False
    request_timeout: float = 90.0

    def __post_init__(self) -> None:
        if isinstance(self.urls, str):
            raise TypeError("ElasticsearchConfig.urls is a tuple of addresses: write (url,)")
        if bool(self.urls) == bool(self.cloud_id):
            raise ValueError("give ElasticsearchConfig either urls or a cloud_id")
        secretive = bool(self.api_key or self.username or self.bearer)
        for url in self.urls:
            _check_url(url)
            if secretive and urlsplit(url).scheme == "http" and not _is_loopback(url):
                raise ValueError(f"credentials would travel to {url} in clear text: write https://")
        if self.cloud_id:
            _check_cloud_id(self.cloud_id)
        if bool(self.username) != bool(self.password):
            raise ValueError("basic authentication needs username and password (a reference such as env:NAME)")
        if sum(map(bool, (self.api_key, self.username, self.bearer))) > 1:
            raise ValueError("give one of api_key, username with password, and bearer")
        for name in ("api_key", "password", "bearer"):
            reference = getattr(self, name)
            if reference:
                try:
                    secret.check(reference)
                except ValueError as e:
                    raise ValueError(f"ElasticsearchConfig.{name} is {e}") from None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ElasticsearchConfig:
        """The configuration that these variables describe: of secret ones only a reference is kept.

        ELASTICSEARCH_URL (several with commas) or ELASTICSEARCH_CLOUD_ID; ELASTICSEARCH_API_KEY, or
        ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_BEARER; ELASTICSEARCH_CA_CERTS. A secret
        one holds the secret, which workers then look up in their own environment, or a reference to it.
        """
        urls = tuple(url.strip() for url in environment.get("ELASTICSEARCH_URL", "").split(",") if url.strip())
        cloud_id = environment.get("ELASTICSEARCH_CLOUD_ID", "")
        if not urls and not cloud_id:
            raise ValueError(
                "no Elasticsearch is named: set ELASTICSEARCH_URL (or ELASTICSEARCH_CLOUD_ID). "
                'For one on this machine: flowlogs local up, then eval "$(flowlogs local env)"'
            )

        def named(variable: str) -> str:
            value = environment.get(variable, "")
            return value if not value or secret.is_reference(value) else f"env:{variable}"

        return cls(
            urls=urls,
            cloud_id=cloud_id,
            api_key=named("ELASTICSEARCH_API_KEY"),
            username=environment.get("ELASTICSEARCH_USERNAME", ""),
            password=named("ELASTICSEARCH_PASSWORD"),
            bearer=named("ELASTICSEARCH_BEARER"),
            ca_certs=environment.get("ELASTICSEARCH_CA_CERTS", ""),
        )


def connect(config: ElasticsearchConfig) -> Elasticsearch:
    """The client for `config`: its connections are shared by the whole process, its credentials are as of now.

    Does not touch the network. It repeats no request by itself, except on another host when one does not answer.
    """
    with _once:
        client = _client(config)
    if config.api_key:
        return client.options(api_key=secret.resolve(config.api_key))
    if config.username:
        return client.options(basic_auth=(config.username, secret.resolve(config.password)))
    if config.bearer:
        return client.options(bearer_auth=secret.resolve(config.bearer))
    return client


def bulk_writer(config: ElasticsearchConfig, bulk: BulkConfig) -> BulkWriter:
    """The process's one writer for this cluster and these limits; never closed."""
    with _once:
        return _bulk_writer(config, bulk)


@cache
def _bulk_writer(config: ElasticsearchConfig, bulk: BulkConfig) -> BulkWriter:
    return BulkWriter(lambda: connect(config), bulk)


@cache
def _client(config: ElasticsearchConfig) -> Elasticsearch:
    options: dict[str, Any] = (
        {"cloud_id": config.cloud_id} if config.cloud_id else {"hosts": list(map(_with_port, config.urls))}
    )
    if config.ca_certs:
        options["ca_certs"] = config.ca_certs
    if not config.verify_certs:
        options |= {"verify_certs": False, "ssl_show_warn": True}
    return Elasticsearch(
        **options,
        http_compress=config.http_compress,
        request_timeout=config.request_timeout,
        max_retries=max(0, len(config.urls) - 1),
        retry_on_status=(),
        retry_on_timeout=False,
        serializers=SERIALIZERS,
        node_class=BulkNode,
    )


def _check_url(url: str) -> None:
    # What stands in a wrong place may be a password, so no message repeats any of it.
    parts = urlsplit(url)
    if "@" in url or parts.query or parts.fragment:
        raise ValueError(
            "an address of Elasticsearch (not shown) holds credentials or a query: write https://host:9200, and give "
            "username and password (as a reference such as env:ELASTICSEARCH_PASSWORD) or api_key beside it"
        )
    port = parts.netloc.rpartition("]")[2].partition(":")[2]  # parts.port raises
    if parts.scheme not in ("http", "https") or not parts.hostname or (port and not port.isdecimal()):
        raise ValueError("not an address of Elasticsearch (it is not shown): write it as https://host:9200")


def _check_cloud_id(cloud_id: str) -> None:
    try:
        parse_cloud_id(cloud_id)
    except ValueError:
        raise ValueError(
            "not a cloud id (it is not shown): copy it from the deployment's page on Elastic Cloud, name:letters"
        ) from None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_port(url: str) -> str:
    parts = urlsplit(url)
    if parts.port:
        return url
    return parts._replace(netloc=f"{parts.netloc}:{443 if parts.scheme == 'https' else 9200}").geturl()
