"""What the fault tests share: a web process per file, and brokers that may be killed."""

import logging
from collections.abc import Iterator

import pytest

from tests.faults.parts import Crew, Door, RabbitMQ, Redis, free_port, web

logging.getLogger("httpx").setLevel(logging.WARNING)  # thousands of requests


@pytest.fixture(scope="module")
def door(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The API of a running service, which nothing happens to."""
    port = free_port()
    with Crew(tmp_path_factory.mktemp("service"), [web(port)]) as crew, Door(port) as door:
        crew.waits(lambda: door.is_open, "the service to answer")
        yield door


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    if not Redis.is_here():
        pytest.skip("no redis-server on this machine: faults of Redis are not tried")
    with Redis(tmp_path_factory.mktemp("redis")) as broker:
        yield broker


@pytest.fixture
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    yield from rabbitmq_with(tmp_path_factory, patience_ms=1_800_000)


@pytest.fixture
def impatient_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Waits two seconds for what it waits half an hour by default."""
    yield from rabbitmq_with(tmp_path_factory, patience_ms=2_000)


def rabbitmq_with(paths: pytest.TempPathFactory, *, patience_ms: int) -> Iterator[RabbitMQ]:
    if not RabbitMQ.is_here():
        pytest.skip("no rabbitmq-server on this machine: faults of RabbitMQ are not tried")
    with RabbitMQ(paths.mktemp("rabbitmq"), patience_ms=patience_ms) as broker:
        yield broker
