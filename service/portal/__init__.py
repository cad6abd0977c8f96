"""The members' portal: server-rendered pages on which members see and steer what is held."""

from service.portal.endpoints import routers
from service.portal.screens import ERROR_PAGE

__all__ = ["ERROR_PAGE", "routers"]
