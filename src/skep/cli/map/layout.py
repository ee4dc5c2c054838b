"""A map as the command line sees it: sizes, per-CPU values, keys and values from words, entries shown."""

from __future__ import annotations

import os

from skep.cli.noun import names, objects
from skep.cli.noun.command import Call
from skep.cli.noun.hextext import json_bytes, plain_bytes
from skep.cli.noun.jsontext import Pairs, text
from skep.cli.noun.words import Usage, Words, number
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.cli.noun.typed import Shown

_PER_CPU = frozenset(
    (
        MapType.PERCPU_HASH,
        MapType.PERCPU_ARRAY,
        MapType.LRU_PERCPU_HASH,
        MapType.PERCPU_CGROUP_STORAGE,
    )
)
_OF_MAPS = frozenset((MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS))


class MapView:
    """One map, its sizes and how its entries are read and shown."""

    __slots__ = ("_shown", "about", "call", "cpus", "fd", "key_size", "step", "type", "value_size")

    def __init__(self, call: Call, fd: int) -> None:
        self.call = call
        self.fd = fd
        self.about: dict[str, Any] = objects.info(call.kernel, fd, "map")
        self.type: int = self.about["type"]
        self.key_size: int = self.about["key_size"]
        self.value_size: int = self.about["value_size"]
        self.cpus = call.kernel.cpus
        self.step = (self.value_size + 7) & ~7
        self._shown: Shown | None = None

    @property
    def per_cpu(self) -> bool:
        return self.type in _PER_CPU

    @property
    def of_maps(self) -> bool:
        return self.type in _OF_MAPS

    @property
    def of_programs(self) -> bool:
        return self.type == MapType.PROG_ARRAY

    def room(self) -> bytearray:
        """A buffer for one entry's value, of all CPUs where each has its own."""
        return bytearray(self.step * self.cpus if self.per_cpu else self.value_size)

    def values(self, value: bytearray) -> list[bytes]:
        """The value of each CPU."""
        return [bytes(value[i * self.step : i * self.step + self.value_size]) for i in range(self.cpus)]

    def shown(self) -> Shown | None:
        """How keys and values are decoded, None without BTF."""
        about = self.about
        if self._shown is None:
            from skep.cli.noun.typed import Shown

            if about["btf_vmlinux_value_type_id"]:
                from skep.btf import Btf

                self._shown = Shown(Btf.kernel(), plain=not self.call.json)
            elif about["btf_value_type_id"]:
                from skep.cli.noun.kernel_btf import load

                self._shown = Shown(load(self.call.kernel, about["btf_id"]), plain=not self.call.json)
        return self._shown

    def formatted(self, key: bytes, value: bytearray, shown: Shown) -> Pairs:
        """An entry as BTF describes it."""
        out = Pairs()
        if self.about["btf_key_type_id"]:
            out.append(("key", shown.value(self.about["btf_key_type_id"], key)))
        type_id = self.about["btf_vmlinux_value_type_id"] or self.about["btf_value_type_id"]
        if not self.per_cpu:
            out.append(("value", shown.value(type_id, value)))
        else:
            each = [
                {"cpu": cpu, "value": shown.value(type_id, data)}
                for cpu, data in enumerate(self.values(value))
            ]
            out.append(("values", each))
        return out

    def entry_json(self, key: bytes, value: bytearray) -> dict[str, Any]:
        row: dict[str, Any] = {"key": json_bytes(key)}
        if self.per_cpu:
            row["values"] = [
                {"cpu": cpu, "value": json_bytes(data)} for cpu, data in enumerate(self.values(value))
            ]
        else:
            row["value"] = json_bytes(value)
        shown = self.shown()
        if shown is not None:
            row["formatted"] = self.formatted(key, value, shown)
        return row

    def entry_plain(self, key: bytes, value: bytearray) -> str:
        """An entry's bytes."""
        if self.per_cpu:
            wide = "\n" if self.value_size > 16 else " "
            rows = [f"key:\n{plain_bytes(key)}\n"] if key else []
            if self.value_size:
                rows += [
                    f"value (CPU {cpu:02d}):{wide}{plain_bytes(data)}\n"
                    for cpu, data in enumerate(self.values(value))
                ]
            return "".join(rows)
        wide = "\n" if self.key_size > 16 or self.value_size > 16 else " "
        between = "  " if self.key_size + self.value_size <= 24 and wide == " " else "\n"
        out = f"key:{wide}{plain_bytes(key)}{between}" if key else ""
        if self.value_size:
            out += f"value:{wide}{plain_bytes(value)}"
        return out + "\n"

    def error_json(self, key: bytes, code: int) -> dict[str, Any]:
        return {"key": json_bytes(key), "value": {"error": os.strerror(code)}}

    def error_plain(self, key: bytes, message: str) -> str:
        wide = "\n" if self.key_size > 16 or len(message) > 16 else " "
        between = "  " if self.key_size + len(message) <= 24 and wide == " " else "\n"
        return f"key:{wide}{plain_bytes(key)}{between}value:{wide}{message}\n"

    def print(self, key: bytes, value: bytearray) -> None:
        """One entry as the answer of a verb."""
        call = self.call
        if call.json:
            call.emit(self.entry_json(key, value))
        elif (shown := self.shown()) is not None:
            call.write(text(self.formatted(key, value, shown), pretty=True) + "\n")
        else:
            call.write(self.entry_plain(key, value))

    # --- from the command line -----------------------------------------------------------------

    def key(self, words: Words) -> bytes:
        """``key DATA``, all that is left; nothing for a map without keys."""
        key, _, _ = self.element(words, value=False, flags=False)
        return key

    def element(
        self, words: Words, *, key: bool = True, value: bool = True, flags: bool = True
    ) -> tuple[bytes, bytearray, int]:
        """(key, value, update flags) from the words left; descriptors are written into the value.

        Raises:
            Usage: a part is missing, given twice, or has not as many bytes as the map wants.
        """
        need_key, need_value = key and self.key_size > 0, value and self.value_size > 0
        found_key = b""
        found_value = bytearray()
        flag = 0
        while words:
            if words.accept("key"):
                if not need_key:
                    raise Usage("a second key" if found_key else "this map has no keys")
                found_key, need_key = data_bytes(words, "key", self.key_size), False
            elif value and words.accept("value"):
                if not need_value:
                    raise Usage("a second value" if found_value else "this map has no values")
                found_value, need_value = self._value(words), False
            elif flags and words.next_is("any", "noexist", "exist"):
                word = words.take("flag")
                flag = 0 if "any".startswith(word) else 1 if "noexist".startswith(word) else 2
                flags = False
            else:
                raise Usage(f"expected key, value or flags, got {words.peek()!r}")
        if need_key:
            raise Usage(f"key is missing ({self.key_size} bytes)")
        if need_value:
            raise Usage(f"value is missing ({self.value_size} bytes)")
        return found_key, found_value, flag

    def _value(self, words: Words) -> bytearray:
        kernel = self.call.kernel
        if self.of_maps or self.of_programs:
            find = objects.map_ if self.of_maps else objects.program
            return bytearray(find(kernel, words).to_bytes(4, "little"))
        data = data_bytes(words, "value", self.value_size)
        if self.per_cpu:
            return bytearray(data.ljust(self.step, b"\0") * self.cpus)
        return bytearray(data)

    def describe(self) -> str:
        return f"map {self.about['id']} ({names.plain(names.map_type(self.type))})"


def data_bytes(words: Words, what: str, size: int) -> bytes:
    """``[hex] BYTES``: exactly ``size`` words, one for each byte."""
    hexadecimal = words.accept("hex")
    out = bytearray()
    while len(out) < size and words:
        word = words.take(what)
        if hexadecimal:
            try:
                value = int(word, 16)
            except ValueError:
                raise Usage(f"{what}: {word!r} is no byte in hex digits") from None
            if not 0 <= value <= 255:
                raise Usage(f"{what}: {word} is no byte")
            out.append(value)
        else:
            if word in ("key", "value", "any", "exist", "noexist"):
                break
            out.append(number(word, what, 8))
    if len(out) != size:
        raise Usage(f"{what} has {size} bytes, {len(out)} are given")
    return bytes(out)
