"""Numbers on a port of their own: routes and statuses, never anything a person typed."""

import asyncio

import pytest

from service.app import create_app
from service.metrics import MetricsServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def metrics(world):
    """The metrics of the app that the world's clients talk to."""
    return MetricsServer(world.runtime, world.http._transport.app)


async def fetched(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_requests_are_counted_by_route_and_status(world, metrics):
    app = await world.app()
    member = await app.register()
    await app.view(member)
    await app.view("sub_nobody")
    text = await metrics.text()
    route = 'route="/v1/members/{member}/view"'
    assert f'yinyom_requests_total{{{route},status="200"}} 1' in text
    assert f'yinyom_requests_total{{{route},status="404"}} 1' in text
    assert 'yinyom_ready{check="database"} 1' in text


async def test_no_path_and_no_value_becomes_a_label(world, metrics):
    app = await world.app()
    await app.register(phone="081-999-7777")
    for path in ("/v1/members/0819997777/view?purpose=marketing", "/สมหญิง", "/v1/0819997777"):
        await app.get(path)
    text = await metrics.text()
    assert "0819997777" not in text
    assert "สมหญิง" not in text


async def test_the_port_answers_metrics_and_nothing_else(world, metrics):
    port = await metrics.start("127.0.0.1", 0)
    try:
        answer = await fetched(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"yinyom_audit_log_size" in answer
        for request in (b"GET / HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
            assert (await fetched(port, request)).startswith(b"HTTP/1.1 404")
        assert await fetched(port, b"x" * 100_000 + b"\r\n\r\n") == b""
    finally:
        await metrics.stop()


async def test_the_public_port_has_no_metrics(world):
    app = await world.app()
    assert (await app.get("/metrics")).status_code == 404
    assert create_app(world.runtime).served == {}
