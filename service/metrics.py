"""Numbers for whoever watches the service: Prometheus text on a port of its own.

Off unless a port is set, and never on the public port. Labels are route templates, status codes
and names of checks; there is no label that a person could have typed (text format 0.0.4).
"""

import asyncio
from collections.abc import Mapping

from audit import pending
from service.health import readiness
from service.middleware import Edge, Served
from service.runtime import Runtime

_SECONDS = 5.0
_LONGEST_HEAD = 8_192
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Answers `GET /metrics`, and nothing else."""

    def __init__(self, runtime: Runtime, edge: Edge) -> None:
        self._runtime = runtime
        self._edge = edge
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port, which the system chose if 0 was asked for."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_LONGEST_HEAD)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                line = await reader.readline()
                while (await reader.readline()).strip():
                    pass
            method, _, rest = line.partition(b" ")
            if method == b"GET" and rest.split(b" ")[0] == b"/metrics":
                status, body = "200 OK", (await self.text()).encode()
            else:
                status, body = "404 Not Found", b""
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: {_CONTENT_TYPE}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # a client that does not speak HTTP is not worth a line
        finally:
            writer.close()

    async def text(self) -> str:
        """Give the numbers of this moment."""
        checks = (await readiness(self._runtime))["checks"]
        async with self._runtime.database.read() as session:
            waiting, oldest_us = await pending(session)
            requests = await self._runtime.rights_requests.counts(session)
            late = await self._runtime.rights_requests.overdue(
                session, self._runtime.clock.now_us()
            )
        age_us = 0 if oldest_us is None else self._runtime.clock.now_us() - oldest_us
        lines = [
            *_requests(self._edge.served),
            "# TYPE yinyom_audit_log_size gauge",
            f"yinyom_audit_log_size {self._runtime.sequencer.state.size}",
            "# TYPE yinyom_audit_waiting gauge",
            f"yinyom_audit_waiting {waiting}",
            "# TYPE yinyom_audit_oldest_waiting_seconds gauge",
            f"yinyom_audit_oldest_waiting_seconds {max(age_us, 0) / 1_000_000:.3f}",
            "# TYPE yinyom_member_budget_refusals_total counter",
            f"yinyom_member_budget_refusals_total {self._runtime.budget.refused}",
            "# TYPE yinyom_rights_requests gauge",
            *(
                f'yinyom_rights_requests{{right="{right}",state="{state}"}} {count}'
                for right, state, count in requests
            ),
            "# TYPE yinyom_rights_overdue gauge",
            f"yinyom_rights_overdue {len(late)}",
            "# TYPE yinyom_ready gauge",
            *(
                f'yinyom_ready{{check="{name}"}} {int(state == "ok")}'
                for name, state in sorted(checks.items())
            ),
        ]
        return "\n".join(lines) + "\n"


def _requests(served: Mapping[tuple[str, int], Served]) -> list[str]:
    counts = ["# TYPE yinyom_requests_total counter"]
    seconds = ["# TYPE yinyom_request_seconds_total counter"]
    for (route, status), numbers in sorted(served.items()):
        labels = f'{{route="{route}",status="{status}"}}'
        counts.append(f"yinyom_requests_total{labels} {numbers.count}")
        seconds.append(f"yinyom_request_seconds_total{labels} {numbers.total_us / 1_000_000:.6f}")
    return counts + seconds
