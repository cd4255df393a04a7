"""`@frozen`: the dataclass for values that are made anew in every cycle, and `changed`, which makes one from another.

To the type checker they are `@dataclass(frozen=True, slots=True)` and `dataclasses.replace`: an assignment to a field, a
name or a type that does not fit is an error, here and in the tests. At run time a value is only slotted. A dataclass
that is frozen at run time sets each field through `object.__setattr__`, which makes it seven times as dear to
construct, and `replace` looks every field up by its name; a cycle constructs some hundreds of values.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

__all__ = ["changed", "frozen"]

Value = TypeVar("Value")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[Value]) -> type[Value]:
    """Make a class a value: compared and hashed by its fields, picklable, never changed."""
    made: Any = dataclass(slots=True, unsafe_hash=True)(cls)
    names = [f.name for f in fields(made)]
    made.__places__ = {name: k for k, name in enumerate(names)}
    made.__parts__ = attrgetter(*names, names[0])  # one more than there are, so that it is a tuple of a single field too
    return made  # type: ignore[no-any-return]  # `slots=True` makes a new class of the same type


if TYPE_CHECKING:
    from dataclasses import replace as changed
else:

    def changed(value, /, **fields):
        """Return a value of a `@frozen` class with some of its fields changed."""
        kind = type(value)
        *parts, _ = kind.__parts__(value)
        places = kind.__places__
        for name, part in fields.items():
            parts[places[name]] = part
        return kind(*parts)
