"""The console: server-rendered pages on which compliance officers answer, check and prove."""

from service.console.endpoints import router

__all__ = ["router"]
