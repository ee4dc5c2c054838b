"""What a program holds, path by path: the states of references in the environment, and where paths meet.

A reference that was acquired has an entry in the environment beside the variables, under `slot`. A variable
that refers to it has a `Ref`. `references` has what acquires and gives back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.lang.values import NONE, Type, Value

if TYPE_CHECKING:
    from skep.lang.scope import Env

#: states: tested to be None; held; held unless it is None; given back; held on some paths only
GONE: Final = 0
HELD: Final = 1
MAYBE: Final = 2
RELEASED: Final = 3
SPLIT: Final = 4
_LIVE: Final = (HELD, MAYBE)
_PREFIX: Final = "%held "


class Ref(NamedTuple):
    """What a value refers to: the reference's key. What is ``own`` gives it back; the rest (a cast, a member)
    only ends with it."""

    key: str
    own: bool = True


class HeldType(Type):
    """The type of the entries: ``lo`` is the state, ``hi`` the line that gave it back."""

    name = "a reference"

    def same(self, other: Type) -> bool:
        return isinstance(other, HeldType)


HELD_TYPE: Final = HeldType()


def slot(key: str) -> str:
    """The entry's name in the environment."""
    return _PREFIX + key


def entry(state: int, line: int = 0) -> Value:
    """An entry."""
    return Value(HELD_TYPE, "", state, line)


def state(env: Env, key: str) -> int:
    """The state of a reference, `GONE` when this path never acquired it."""
    found = env.get(_PREFIX + key)
    return GONE if found is None else found.lo


def live(env: Env) -> list[str]:
    """The keys of what is held, or may be, in the order in which it was acquired."""
    return [
        name[len(_PREFIX) :]
        for name, value in env.items()
        if name.startswith(_PREFIX) and value.lo in (HELD, MAYBE, SPLIT)
    ]


def unseen(env: Env, lost: dict[str, str], key: str, why: str) -> None:
    """Forget the variables that refer to ``key``."""
    for name, value in list(env.items()):
        if any(part.ref is not None and part.ref.key == key for part in parts(value)):
            del env[name]
            lost[name] = why


def is_slot(name: str) -> bool:
    """Whether a name of the environment is an entry's."""
    return name.startswith(_PREFIX)


def owners(env: Env, key: str) -> list[str]:
    """The variables that can give a reference back."""
    return [
        name
        for name, value in env.items()
        if any(one.ref is not None and one.ref.own and one.ref.key == key for one in parts(value))
    ]


def parts(value: Value) -> list[Value]:
    """A value, or the items of a tuple."""
    if value.type.name == "a tuple":
        return [part for item in value.obj for part in parts(item)]
    return [value]


def join_refs(a: Value, b: Value) -> tuple[bool, Ref | None]:
    """(whether they can be one variable, what it refers to then)."""
    if a.ref == b.ref:
        return True, a.ref
    if not any(v.ref is not None and (v.ref.own or not v.ref.key.startswith("lock ")) for v in (a, b)):
        return True, None
    if a.type is NONE:
        return True, b.ref
    if b.type is NONE:
        return True, a.ref
    if a.ref is None or b.ref is None or a.ref.own != b.ref.own:
        return False, None
    keys = sorted({*a.ref.key.split("|"), *b.ref.key.split("|")})
    return True, Ref("|".join(keys), a.ref.own)


def join(envs: list[Env], made: Env) -> None:
    """Put the states after several paths into ``made``, which has the variables already."""
    names = list(dict.fromkeys(name for env in envs for name in env if name.startswith(_PREFIX)))
    if not names:
        return
    grouped: set[str] = set()
    for value in [part for bound in list(made.values()) for part in parts(bound)]:
        if value.ref is None or not value.ref.own or value.ref.key in grouped:
            continue
        key = value.ref.key
        grouped.add(key)
        made[slot(key)] = entry(*_met([_of_group(env, key) for env in envs], _absent(envs, made, key)))
        grouped.update(key.split("|"))
    for name in names:
        key = name[len(_PREFIX) :]
        if key in grouped:
            continue
        state, line = _met([_of_group(env, key) for env in envs], False)
        if state != GONE:
            made[name] = entry(state, line)


def _of_group(env: Env, key: str) -> tuple[int, int]:
    """(state, line) of whatever of a group of references a path has."""
    found = [v for part in {key, *key.split("|")} if (v := env.get(_PREFIX + part)) is not None]
    # What is held counts more than what another path to here gave back.
    for state in (SPLIT, HELD, MAYBE, RELEASED):
        for value in found:
            if value.lo == state:
                return value.lo, value.hi
    return GONE, 0


def _absent(envs: list[Env], made: Env, key: str) -> bool:
    """Whether a variable says which paths hold the reference: it is None on the others."""
    names = {key, *key.split("|")}
    for name in made:
        good = True
        for env in envs:
            bound = env.get(name)
            if bound is None:
                good = False
                break
            held = _of_group(env, key)[0] in _LIVE
            mine = bound.ref is not None and bound.ref.own and bound.ref.key in names
            if (held and not mine) or (not held and not mine and bound.type is not NONE):
                good = False
                break
        if good and any(env[name].ref is not None for env in envs):
            return True
    return False


def _met(states: list[tuple[int, int]], told: bool) -> tuple[int, int]:
    """The state where paths meet; ``told``: a variable that is None says where it is not held."""
    kinds = {state for state, _ in states}
    line = max(line for _, line in states)
    if len(kinds) == 1:
        return next(iter(kinds)), line
    if SPLIT in kinds:
        return SPLIT, line
    if not kinds & set(_LIVE):
        return RELEASED, line
    if RELEASED in kinds or (GONE in kinds and not told):
        return SPLIT, line
    return MAYBE, line
