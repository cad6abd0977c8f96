"""The console: server-rendered pages on which compliance officers answer, check and prove."""

from service.console.endpoints import routers

__all__ = ["routers"]
