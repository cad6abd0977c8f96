"""Sealed values on their way from a row to the ticket, typed by what they open to.

A cell that travels as plain bytes can be logged, cached or answered by mistake, and nobody sees
from its type what it holds. A `Sealed` prints as its field alone, goes into no pickle and no
JSON, and gives its value for a ticket only (`Vault.open_value`).
"""

from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from kernel import NotAllowedError

Value = TypeVar("Value")


class Sealed(Generic[Value]):
    """A cell, the field it is of, and how what it holds is read: `Sealed[date]` opens to a date.

    Two of them are never equal, and none says how long its value is.
    """

    __slots__ = ("cell", "field", "read")

    def __init__(self, field: str, cell: bytes, read: Callable[[str], Value]) -> None:
        self.field = field
        self.cell = cell
        self.read = read

    def __repr__(self) -> str:
        return f"<sealed {self.field}>"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise NotAllowedError("a sealed value goes into no pickle and no copy")

    def __bool__(self) -> NoReturn:
        raise NotAllowedError("a sealed value says nothing before it is opened")
