"""The command line: `yinyom …`. Heavy modules are imported by the command that needs them."""

from service.cli.main import main

__all__ = ["main"]
