"""`IntEnum`, `NamedTuple`, and `cached_property` without the modules they come from.

`typing` and `enum` bring `re`, `functools` and `collections` along: 15 to 20 ms, half of what it takes to
load an object and see its first event. Type checkers see the standard library's own classes; at run time
these behave alike in what skep uses of them, and make members and constructors when they are first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import IntEnum as IntEnum
    from functools import cached_property as cached_property
    from typing import NamedTuple as NamedTuple
    from typing import TypeVar

    _T = TypeVar("_T")
else:
    from _collections import _tuplegetter

    class _EnumType(type):
        def __new__(mcls, name, bases, body):
            values = {
                key: value for key, value in body.items() if type(value) is int and not key.startswith("_")
            }
            rest = {key: value for key, value in body.items() if key not in values}
            made = super().__new__(mcls, name, bases, rest)
            made._values = values
            made._by_value = {}
            made._names = {}
            for key, value in values.items():
                made._names.setdefault(value, key)
            return made

        def __getattr__(cls, name):
            value = cls._values.get(name) if not name.startswith("_") else None
            if value is None:
                raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
            member = cls(value)
            type.__setattr__(cls, name, member)
            return member

        def __call__(cls, value):
            member = cls._by_value.get(value)
            if member is None:
                name = cls._names.get(value)
                if name is None:
                    raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")
                member = cls._by_value[int(value)] = int.__new__(cls, value)
                member.name = name
            return member

        def __getitem__(cls, name):
            if name not in cls._values:
                raise KeyError(name)
            return getattr(cls, name)

        def __iter__(cls):
            return map(cls, cls._names)

        def __len__(cls):
            return len(cls._names)

        def __bool__(cls):
            return True

        def __contains__(cls, value):
            return value in cls._names

        def __dir__(cls):
            return sorted({*type.__dir__(cls), *cls._values})

        @property
        def __members__(cls):
            """Members by name, aliases too."""
            return {name: cls(value) for name, value in cls._values.items()}

    class IntEnum(int, metaclass=_EnumType):
        """Named integers; two names of one number are one member."""

        @property
        def value(self):
            return int(self)

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {int(self)}>"

        __str__ = int.__repr__
        __format__ = int.__format__

        def __reduce_ex__(self, protocol):
            return type(self), (int(self),)

    def _make(cls, items):
        made = tuple.__new__(cls, items)
        if len(made) != len(cls._fields):
            raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}")
        return made

    def _replace(self, /, **changes):
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise ValueError(f"{type(self).__name__} has no fields {', '.join(changes)}")
        return made

    def _asdict(self):
        return dict(zip(self._fields, self, strict=True))

    def _repr(self):
        items = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({items})"

    def _getnewargs(self):
        return tuple(self)

    class _NamedTupleType(type):
        def __new__(mcls, name, bases, body):
            if not bases:
                return super().__new__(mcls, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            body |= {
                "__slots__": (),
                "__match_args__": fields,
                "__getnewargs__": _getnewargs,
                "_fields": fields,
                "_field_defaults": defaults,
                "_make": classmethod(_make),
                "_replace": _replace,
                "_asdict": _asdict,
            }
            body.setdefault("__repr__", _repr)
            body.setdefault("__new__", _constructor(name, fields, defaults))
            for index, field in enumerate(fields):
                body[field] = _tuplegetter(index, None)
            return type(name, (tuple,), body)

    def _constructor(name, fields, defaults):
        """``__new__``, compiled at the first call: most classes of a module are not made in every run."""

        def __new__(cls, /, *args, **named):  # noqa: N807
            words = ", ".join(fields)
            space = {"make": tuple.__new__, "__name__": f"{__name__}.{name}", "__builtins__": {}}
            new = eval(f"lambda _cls, {words}: make(_cls, ({words},))", space)
            new.__name__, new.__qualname__ = "__new__", f"{name}.__new__"
            new.__defaults__ = tuple(defaults.values()) or None
            for base in cls.__mro__:
                if base.__dict__.get("__new__") is made:
                    base.__new__ = new
            return new(cls, *args, **named)

        made = staticmethod(__new__)
        return made

    class NamedTuple(metaclass=_NamedTupleType):
        """The class statement's fields, in order, as a tuple's items."""

    class cached_property:  # noqa: N801
        """A property that is computed once for each object; the object has a ``__dict__``."""

        def __init__(self, get):
            self._get = get
            self.__doc__ = get.__doc__

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._get(instance)
            return value


def once(function: Callable[[], _T]) -> Callable[[], _T]:
    """A function without arguments that is computed at its first call."""
    found: list[_T] = []

    def call() -> _T:
        if not found:
            found.append(function())
        return found[0]

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call
