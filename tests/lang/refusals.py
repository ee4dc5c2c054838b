"""What the language refuses: source, the span the error points at, and what it says.

Each case is a body of the program ``main`` (or whole definitions when it has a ``def`` or ``class`` of its
own); the other definitions are `PRELUDE`. ``at`` is the source under the carets, ``says`` a part of the
message, ``hint`` what to write instead, or how that begins.
"""

# ruff: noqa: E501 (programs and messages stay whole)
from __future__ import annotations

from typing import NamedTuple

PRELUDE = """\
from enum import IntEnum
import math
import time
from skep.net import ethhdr, iphdr

@bpf.struct
class Entry:
    count: u64
    small: u8
    name: bytes = bpf.char(8)
    cells: list[u32] = bpf.array(u32, 4)

@bpf.struct
class Record:
    number: u32

@bpf.struct
class Locked:
    lock: bpf.SpinLock
    count: u64

class Color(IntEnum):
    RED = 1

table = bpf.Hash(u32, u64)
entries = bpf.Hash(u32, Entry)
array = bpf.Array(u64, 16)
events = bpf.RingBuf(Record)
locked = bpf.Hash(u32, Locked)
queue = bpf.Queue(u32)
outer = bpf.HashOfMaps(u32, table)
jumps = bpf.ProgArray(4)
limit: u32 = bpf.const(5)
total: u64 = bpf.var(0)
LIST = [1, 2]
DICT = {1: 2}
RATE = 1.5
WORDS = ("a", "b")

def helper(x: u64) -> u64:
    return x + 1

def recurses(x: u64) -> u64:
    return recurses(x - 1)

def mixed(x: u64):
    if x > 5:
        return 1
    return WORDS

def star(*args):
    return 0

@bpf.subprog
def untyped(x) -> u64:
    return 0

@bpf.subprog
def unresolved(x: u64):
    return 0

@bpf.subprog
def many(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> u64:
    return a

@bpf.subprog
def takes(e: Entry) -> u64:
    return e.count

@bpf.subprog
def escapes() -> Entry:
    return Entry()

@bpf.subprog
def again(x: u64) -> u64:
    return again(x - 1)

@bpf.subprog
def passes(e: Entry) -> Entry:
    return e

@bpf.subprog(global_=True)
def silent(x: u64) -> None:
    return
"""


class Case(NamedTuple):
    body: str
    at: str
    says: str
    hint: str = ""


CASES = [
    Case(
        "n = table.get(1)\nx = n == 3",
        "n",
        "n may be None here",
        "test it first: if n is None: return ...",
    ),
    Case("x = again(5)", "again(x - 1)", "again() calls itself: programs have no recursion", "write a loop"),
    Case(
        "n = limit\nwhile n > 0:\n    n -= 2",
        "n > 0",
        "this loop may turn 2,147,483,649 times: the verifier follows at most about a million instructions",
        "bound it: for i in range(min(n, 256)), or use bpf.loop(n, function)",
    ),
    Case(
        "for i in range(3000):\n    for j in range(3000):\n        array[1] += j",
        "range(3000)",
        "this loop may turn 9,000,000 times, with those around it: the verifier follows at most about a million instructions",
        "bound it: range(min(n, 256)), or use bpf.loop(n, function)",
    ),
    Case(
        "x = passes(Entry())",
        "return e",
        "this may lie on the stack of the caller, and the verifier lets no such reference back",
        "return its fields, or inline: leave @bpf.subprog out",
    ),
    Case(
        "x = [i for i in range(3)]",
        "[i for i in range(3)]",
        "comprehensions are not compiled",
        "write a for loop over a bpf.array",
    ),
    Case(
        "x = {i for i in range(3)}", "{i for i in range(3)}", "comprehensions are not compiled", "use a map"
    ),
    Case(
        "x = {i: i for i in range(3)}",
        "{i: i for i in range(3)}",
        "comprehensions are not compiled",
        "use a map",
    ),
    Case(
        "x = sum(i for i in range(3))",
        "sum(i for i in range(3))",
        "sum() does not exist inside a program",
        "write a for loop",
    ),
    Case(
        "x = any(i > 2 for i in range(3))",
        "(i > 2 for i in range(3))",
        "generator expressions are not compiled",
        "write a for loop",
    ),
    Case("x = {}", "{}", "a dict does not exist inside a program", "declare a map: bpf.Hash(K, V)"),
    Case("x = {1, 2}", "{1, 2}", "a set does not exist inside a program", "declare a map: bpf.Hash(K, u8)"),
    Case("f = lambda x: x", "lambda x: x", "lambda is not compiled here", "define a function"),
    Case("x = 1.5", "1.5", "programs have no floating-point numbers", "scale it to an integer"),
    Case("x = RATE", "RATE", "programs have no floating-point numbers", "scale it to an integer"),
    Case("x = 7 / 2", "7 / 2", "programs have no floating-point numbers", "// divides integers"),
    Case("x = 1 << 64", "1 << 64", "18446744073709551616 needs more than 64 bits", "split it in two"),
    Case("x = limit << 64", "limit << 64", "the shift count may be 64: counts are 0 to 63", "test it first"),
    Case(
        "x = 1 << limit",
        "1 << limit",
        "the shift count may be 4294967295: counts are 0 to 63",
        "test it first, or mask it: (n & 63)",
    ),
    Case("x = 5 // 0", "5 // 0", "division by zero", "test the divisor first"),
    Case(
        "x = 2 ** limit ** limit",
        "limit ** limit",
        "powers are computed for constants, for 2 ** n, and for x ** 0 to x ** 8",
        "multiply in a loop",
    ),
    Case(
        "x = 3 ** limit",
        "3 ** limit",
        "powers are computed for constants, for 2 ** n, and for x ** 0 to x ** 8",
        "multiply in a loop",
    ),
    Case(
        "x = (1 << 70) - 1",
        "(1 << 70) - 1",
        "1180591620717411303423 needs more than 64 bits",
        "split it in two",
    ),
    Case(
        "x = 0x1_0000_0000_0000_0000",
        "0x1_0000_0000_0000_0000",
        "18446744073709551616 needs more than 64 bits",
        "split it in two",
    ),
    Case(
        "x = total - 1\nif x > 5:\n    return 1",
        "x > 5",
        "this may be negative and may exceed 63 bits: its sign is not known",
        "say which it is with u64(...) or s64(...)",
    ),
    Case(
        "x = (total - 1) >> 3",
        "(total - 1) >> 3",
        "this may be negative and may exceed 63 bits: its sign is not known",
        "say which it is with u64(...) or s64(...)",
    ),
    Case(
        "x = (total - 1) // 3",
        "(total - 1) // 3",
        "this may be negative and may exceed 63 bits: its sign is not known",
        "say which it is with u64(...) or s64(...)",
    ),
    Case(
        "x = 'a' + 1",
        "'a' + 1",
        "a text cannot be computed with",
        "texts are constants, or fields of a struct",
    ),
    Case(
        "x = 'a' % 1",
        "'a' % 1",
        "text is not formatted in a program",
        'bpf.printk(f"...") formats, or store the values',
    ),
    Case(
        "x = f'{limit}'",
        "f'{limit}'",
        'an f-string is for bpf.printk(f"...") only',
        "store the values and format them in Python",
    ),
    Case(
        "x = WORDS < 3",
        "WORDS < 3",
        "a tuple cannot be compared with an integer",
        "numbers are compared with numbers",
    ),
    Case(
        "x = 'a' < 'b'",
        "'a' < 'b'",
        "texts are compared with == and != only",
        "compare single bytes: text[0] < 65",
    ),
    Case(
        "try:\n    x = 1\nexcept ValueError:\n    pass",
        "try:",
        "programs have no exceptions",
        "test for None, or look at what the helper returns",
    ),
    Case("raise ValueError", "raise ValueError", "programs have no exceptions", "return an error value"),
    Case("assert limit > 3", "assert limit > 3", "assert is not compiled", "write: if not (...): return ..."),
    Case("import os", "import os", "import inside a program is not compiled", "import at module level"),
    Case(
        "from os import path",
        "from os import path",
        "import inside a program is not compiled",
        "import at module level",
    ),
    Case(
        "class C:\n    pass",
        "class C:",
        "classes inside a program are not compiled",
        "declare it at module level with @bpf.struct",
    ),
    Case(
        "def f():\n    pass",
        "def f():",
        "functions inside a program are not compiled",
        "define it at module level",
    ),
    Case(
        "print(limit)",
        "print(limit)",
        "print() does not exist inside a program",
        'bpf.printk(f"...") prints to the trace pipe',
    ),
    Case("x = open('f')", "open('f')", "open() does not exist inside a program", "programs have no files"),
    Case(
        "x = str(limit)",
        "str(limit)",
        "str() does not exist inside a program",
        "texts are constants, or fields of a struct",
    ),
    Case(
        "x = float(limit)",
        "float(limit)",
        "float() does not exist inside a program",
        "programs have no floating-point numbers",
    ),
    Case(
        "x = sorted((1, 2))",
        "sorted((1, 2))",
        "sorted() does not exist inside a program",
        "sort in Python, after reading",
    ),
    Case("x: u32 = None", "None", "a u32 is never None", "start with a number, or leave the type out"),
    Case(
        "del nothing",
        "nothing",
        "nothing may be used before it has a value",
        "assign it on every path, or before: nothing = 0",
    ),
    Case(
        "global nothing\nnothing = 5",
        "global nothing",
        "nothing is no global of the module",
        "declare it: nothing: u64 = bpf.var(0)",
    ),
    Case(
        "for a, b in zip(WORDS, limit):\n    pass",
        "zip(WORDS, limit)",
        "zip() takes tuples in a program",
        "for i in range(...): x = a[i]; y = b[i]",
    ),
    Case(
        "for a, b in enumerate(limit):\n    pass",
        "enumerate(limit)",
        "an integer cannot be looped over",
        "loop over range(...), an array, or a tuple",
    ),
    Case(
        "match limit:\n    case [1, x]:\n        pass",
        "[1, x]",
        "match compares values only",
        "case 1 | 2:, case Color.RED:, case None:, case _:",
    ),
    Case("x = y", "y", "'y' is not defined", "define or import it in the module"),
    Case("x = tabel.get(1)", "tabel", "'tabel' is not defined", "did you mean 'table'?"),
    Case(
        "if limit:\n    x = 1\nz = x",
        "x",
        "x may be used before it has a value",
        "assign it on every path, or before: x = 0",
    ),
    Case(
        "if limit:\n    x = 1\nelse:\n    x = Entry()\nz = x",
        "x",
        "x is an integer on one path and Entry on another",
        "use two variables",
    ),
    Case(
        "for i in range(limit):\n    x = 1\nz = x",
        "range(limit)",
        "this loop may turn 4,294,967,295 times: the verifier follows at most about a million instructions",
        "bound it: range(min(n, 256)), or use bpf.loop(n, function)",
    ),
    Case(
        "e = entries.get(1)\nx = e.count",
        "e.count",
        "e may be None here",
        "test it first: if e is None: return ...",
    ),
    Case(
        "e = entries.get(1)\ne.count += 1",
        "e.count",
        "e may be None here",
        "test it first: if e is None: return ...",
    ),
    Case("n = table.get(1)\nx = n + 1", "n", "n may be None here", "test it first: if n is None: return ..."),
    Case(
        "n = table.get(1)\nif n:\n    return 1",
        "n",
        "None and 0 would be the same here",
        "write: n is not None",
    ),
    Case(
        "x = table[1]",
        "table[1]",
        "table[...] may not be there",
        "table.get(key) gives None then, table.get(key, 0) a default",
    ),
    Case(
        "x = array[16]",
        "array[16]",
        "map array has no element 16: there are 0 to 15",
        "make it larger, or use another index",
    ),
    Case(
        "x = array[limit]",
        "array[limit]",
        "the index may be 4294967295, map array has elements 0 to 15",
        "test it first: if i < 16, or mask it: i & 15",
    ),
    Case(
        "x = array[-17]",
        "array[-17]",
        "map array has no element -17: there are 0 to 15",
        "make it larger, or use another index",
    ),
    Case("del array[1]", "array[1]", "elements of an array cannot be deleted", "store 0"),
    Case(
        "e = Entry()\nx = e.cells[limit]",
        "e.cells[limit]",
        "the index may be 4294967295, array(u32, 4) has elements 0 to 3",
        "test it first: if i < 4, or mask it: i & 3",
    ),
    Case(
        "e = Entry()\nx = e.cells[4]",
        "e.cells[4]",
        "array(u32, 4) has no element 4: there are 0 to 3",
        "make it larger, or use another index",
    ),
    Case("e = Entry()\nx = e.cuont", "e.cuont", "struct Entry has no field 'cuont'", "did you mean 'count'?"),
    Case(
        "e = Entry()\ne.missing = 1",
        "e.missing",
        "struct Entry has no field 'missing'",
        "there are: count, small, name, cells",
    ),
    Case(
        "e = Entry(1, 2, 'a', (1, 2, 3, 4), 5)",
        "Entry(1, 2, 'a', (1, 2, 3, 4), 5)",
        "struct Entry has 4 fields, 5 values are given",
        "they are: count, small, name, cells",
    ),
    Case(
        "e = Entry(wrong=1)",
        "Entry(wrong=1)",
        "struct Entry has no field 'wrong'",
        "there are: count, small, name, cells",
    ),
    Case(
        "e = Entry(1, count=2)",
        "Entry(1, count=2)",
        "field 'count' is given twice",
        "name it, or give it by position",
    ),
    Case(
        "e = Entry(name='much too long')",
        "Entry(name='much too long')",
        "a constant of 13 bytes does not fit char(8)",
        "make the field larger",
    ),
    Case(
        "e = Entry()\ne.count = 'text'",
        "'text'",
        "a text is no integer (to store it as u64)",
        "texts go in bpf.char fields",
    ),
    Case("e = Entry()\nx = e + 1", "e", "Entry is no integer", "compute with its fields"),
    Case(
        "e = Entry()\nif e.name == 'much too long':\n    return 1",
        "e.name == 'much too long'",
        "a text of 13 bytes never equals char(8)",
        "compare with a shorter one",
    ),
    Case(
        "e = Entry()\nif e.name < 'a':\n    return 1",
        "e.name < 'a'",
        "texts are compared with == and != only",
        "compare single bytes: text[0] < 65",
    ),
    Case(
        "e = Entry()\nif e > 3:\n    return 1",
        "e > 3",
        "struct Entry cannot be compared with an integer",
        "compare its fields",
    ),
    Case(
        "table[Entry()] = 1",
        "Entry()",
        "Entry is no integer (to store it as u32)",
        "give a number, or one of its fields",
    ),
    Case(
        "table['a'] = 1",
        "'a'",
        "a text is no integer (to store it as u32)",
        "texts go in bpf.char fields",
    ),
    Case("entries[1] = 5", "5", "an integer cannot be stored as Entry", "give a value of type Entry"),
    Case(
        "entries[1] += 1",
        "entries[1] += 1",
        "a Entry cannot be added to",
        "p = entries.lookup(key); p.field += 1",
    ),
    Case("table.lookpu(1)", "table.lookpu", "a Hash has no 'lookpu'", "did you mean 'lookup'?"),
    Case("table.get()", "table.get()", "get() needs 'key'", "get(key, default)"),
    Case(
        "table.get(1, 2, 3)",
        "table.get(1, 2, 3)",
        "get() takes at most 2 arguments, 3 are given",
        "get(key, default)",
    ),
    Case(
        "table.get(key=1, kye=2)",
        "table.get(key=1, kye=2)",
        "get() has no argument 'kye'",
        "did you mean 'key'?",
    ),
    Case(
        "x = entries.get(1, 5)",
        "entries.get(1, 5)",
        "a Entry has no default",
        "test what get() gives for None",
    ),
    Case(
        "for k in table:\n    pass",
        "table",
        "map table cannot be looped over",
        "for i in range(n): x = rows[i] of an array; table.for_each(f) for other maps",
    ),
    Case(
        "array[16] = 1",
        "array[16]",
        "map array has no element 16: there are 0 to 15",
        "make it larger, or use another index",
    ),
    Case(
        "array[limit] = 1",
        "array[limit]",
        "the index may be 4294967295, map array has elements 0 to 15",
        "test it first: if i < 16, or mask it: i & 15",
    ),
    Case(
        "table.lookup_or_try_init(1, 0)",
        "table.lookup_or_try_init",
        "a Hash has no 'lookup_or_try_init'",
        "p = m.get(key); if p is None: m.insert(key, bpf.zero(T)); p = m.get(key)",
    ),
    Case(
        "x = bpf_ktime_get_ns()",
        "bpf_ktime_get_ns",
        "'bpf_ktime_get_ns' is not defined",
        "did you mean bpf.ktime_get_ns?",
    ),
    Case("x = len(table)", "len(table)", "map table has no length", "arrays, texts and tuples have"),
    Case(
        "x = LIST",
        "LIST",
        "LIST is a Python list, which programs cannot see",
        "a constant table is a tuple; data that changes goes in a map",
    ),
    Case(
        "x = DICT[1]",
        "DICT",
        "DICT is a Python dict, which programs cannot see",
        "declare a map: bpf.Hash(K, V)",
    ),
    Case(
        "x = math.floor(limit)",
        "math.floor(limit)",
        "floor() cannot be called in a program",
        "functions of your own modules can, and bpf.NAME",
    ),
    Case("x = math.pi", "math.pi", "programs have no floating-point numbers", "scale it to an integer"),
    Case("x = math.nothing", "math.nothing", "module math has no 'nothing'", "see dir() of the module"),
    Case("x = Color.BLUE", "Color.BLUE", "Color has no member 'BLUE'", "there are: RED"),
    Case(
        "x = bpf.no_such_helper()",
        "bpf.no_such_helper",
        "bpf has no 'no_such_helper': no helper, kfunc, type or constant is called so",
        "docs/language.md lists what there is",
    ),
    Case(
        "x = bpf.XDP_PASSS",
        "bpf.XDP_PASSS",
        "bpf has no 'XDP_PASSS': no helper, kfunc, type or constant is called so",
        "did you mean 'XDP_PASS'?",
    ),
    Case(
        "while True:\n    pass",
        "True",
        "nothing bounds this loop: no number in its test counts, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "while limit > 3:\n    x = 1",
        "limit > 3",
        "nothing bounds this loop: no number in its test counts, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i = 0\nwhile i < 100:\n    i += limit",
        "i < 100",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i = 0\nwhile i < 100:\n    if limit > 3:\n        i += 1",
        "i < 100",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i = 0\nwhile i < 100:\n    if limit > 3:\n        continue\n    i += 1",
        "i < 100",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "n = limit\nwhile n != 1:\n    n = 3 * n + 1 if n & 1 else n // 2",
        "n != 1",
        "nothing bounds this loop: n does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "a, b = 48, limit\nwhile b:\n    a, b = b, a % b",
        "b",
        "nothing bounds this loop: b does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i = 0\nwhile i < 100:\n    i += 1\n    i -= 1",
        "i < 100",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i, n = 0, 9\nwhile i < n:\n    i += 1\n    n += 1",
        "i < n",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i: u8 = 0\nwhile i < 300:\n    i += 1",
        "i < 300",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "i: u8 = 9\nwhile i >= 0:\n    i -= 1",
        "i >= 0",
        "nothing bounds this loop: i does not go one way by a constant in every turn, and the verifier would not see its end",
        "count: for i in range(N): if ...: break",
    ),
    Case(
        "for i in range(100000000):\n    x = i",
        "range(100000000)",
        "this loop may turn 100,000,000 times: the verifier follows at most about a million instructions",
        "bound it: range(min(n, 256)), or use bpf.loop(n, function)",
    ),
    Case(
        "for i in range(total):\n    x = i",
        "range(total)",
        "this loop may turn 18,446,744,073,709,551,615 times: the verifier follows at most about a million instructions",
        "bound it: range(min(n, 256)), or use bpf.loop(n, function)",
    ),
    Case(
        "for i in range(1, 5, 0):\n    pass",
        "range(1, 5, 0)",
        "the step of a range is a constant other than 0",
        "range(a, b, 2)",
    ),
    Case(
        "for i in bpf.unroll(range(limit)):\n    pass",
        "bpf.unroll(range(limit))",
        "only a constant range of at most 4,096 is unrolled",
        "leave bpf.unroll out",
    ),
    Case(
        "for i in limit:\n    pass",
        "limit",
        "an integer cannot be looped over",
        "loop over range(...), an array, or a tuple",
    ),
    Case(
        "for c in 'abc':\n    pass",
        "'abc'",
        "a text cannot be looped over",
        "loop over range(...), an array, or a tuple",
    ),
    Case(
        "x = recurses(3)",
        "recurses(x - 1)",
        "recurses() calls itself: programs have no recursion",
        "write a loop",
    ),
    Case(
        "x = mixed(limit)",
        "def mixed(x: u64):",
        "mixed() returns an integer on one path and a tuple on another",
        "return the same type on every path",
    ),
    Case(
        "x = star(1)",
        "star(1)",
        "star() takes * or ** parameters, which are not compiled",
        "name the parameters",
    ),
    Case("x = helper()", "helper()", "helper() is called without 'x'", "helper(x)"),
    Case("x = helper(1, 2)", "helper(1, 2)", "helper() takes 1 argument, 2 are given", "helper(x)"),
    Case("x = helper(1, y=2)", "helper(1, y=2)", "helper() has no parameter 'y'", "there are: x"),
    Case(
        "x = helper('a')",
        "'a'",
        "a text is no integer (parameter 'x' of helper())",
        "texts go in bpf.char fields",
    ),
    Case(
        "x = helper(*limit)", "*limit", "only a tuple can be unpacked into arguments", "write the arguments"
    ),
    Case("x = helper(**limit)", "limit", "** is not compiled", "name the arguments"),
    Case("x = untyped(1)", "x", "parameter 'x' of a subprogram needs a type", "x: u64"),
    Case(
        "x = unresolved(1)",
        "def unresolved(x: u64):",
        "unresolved() needs a result type",
        "def unresolved(...) -> u64:",
    ),
    Case("x = many(1, 2, 3, 4, 5, 6)", "f: u64", "a subprogram takes at most 5 parameters", "pass a struct"),
    Case("x = takes(5)", "takes(5)", "parameter 'e' is Entry, an integer is given", "give a Entry"),
    Case(
        "x = takes(entries.get(1))",
        "takes(entries.get(1))",
        "what is given for 'e' may be None here",
        "test it before: if ... is None: return ...",
    ),
    Case(
        "x = escapes()",
        "return Entry()",
        "this lives on the stack of the function and ends with it",
        "return its fields, or inline",
    ),
    Case(
        "x = main(ctx)",
        "main(ctx)",
        "main is a program: programs are not called",
        "bpf.tail_call jumps to one",
    ),
    Case(
        "limit = 5\nlimit2 = 1",
        "limit",
        "limit is a global of the program, and this would make another, local one",
        "say that it is meant: global limit",
    ),
    Case(
        "global limit\nlimit = 5",
        "limit = 5",
        "limit is a bpf.const: programs cannot change it",
        "declare it with bpf.var",
    ),
    Case(
        "global LIST\nLIST = 5",
        "LIST = 5",
        "LIST is no global variable of the program",
        "declare it: LIST: u64 = bpf.var(0)",
    ),
    Case("a, b = 1, 2, 3", "a, b", "3 values for 2 names", "give each a name"),
    Case("a, b, *c = (1,)", "a, b, *c", "1 values for 3 names", "give each a name"),
    Case("a, b = limit", "limit", "an integer cannot be unpacked", "unpack a tuple"),
    Case(
        "x: float = 5",
        "float",
        "float is no type that has a size in memory",
        "programs have no floating-point numbers",
    ),
    Case("x: Entry = 5", "5", "an integer cannot be stored as Entry", "give a value of type Entry"),
    Case("x: u32 = 'a'", "'a'", "a text is no u32", "change the annotation, or the value"),
    Case(
        "x: nothing = 5",
        "nothing",
        "this annotation names no type (name 'nothing' is not defined)",
        "import it in the module",
    ),
    Case(
        "x = events.reserve()",
        "x = events.reserve()",
        "a reservation is used in 'with'",
        "with ring.reserve() as e: ...",
    ),
    Case(
        "events.reserve()",
        "events.reserve()",
        "what is reserved must be submitted",
        "with ring.reserve() as e: ...",
    ),
    Case(
        "with events.reserve() as e:\n    e.number = 1\nx = e.number",
        "e",
        "e is no longer there: its block has ended",
        "use it inside the block",
    ),
    Case(
        "with table as t:\n    pass",
        "table",
        "map table cannot be used in 'with'",
        "locks and ring.reserve() are",
    ),
    Case(
        "with open('f') as f:\n    pass",
        "open('f')",
        "open() does not exist inside a program",
        "programs have no files",
    ),
    Case("events.output(5)", "5", "an integer has no place in memory", "send a struct"),
    Case(
        "v = locked.lookup(1)\nif v is not None:\n    with v.lock:\n        with v.lock:\n            v.count += 1",
        "v.lock",
        "a lock is held already: a program holds one at a time",
        "end the first block before",
    ),
    Case(
        "v = locked.lookup(1)\nif v is not None:\n    v.lock = 1",
        "v.lock",
        "a bpf_spin_lock cannot be copied or set",
        "it is zero when the value is made",
    ),
    Case("x = queue[1]", "queue[1]", "map queue has no elements", "queue.pop() gives the next, or None"),
    Case("x = limit is 5", "limit is 5", "'is' compares with None only", "use == for values"),
    Case("x = limit == None", "limit == None", "None is compared with 'is' and 'is not'", "x is None"),
    Case(
        "x = limit and 5",
        "limit",
        "'and' and 'or' give truth values here, and this is an integer",
        "test it (x != 0), or choose: x if test else y",
    ),
    Case(
        "x = (1, 2)[limit]", "(1, 2)[limit]", "a tuple is indexed by a constant", "use bpf.array for a table"
    ),
    Case("x = (1, 2)[5]", "(1, 2)[5]", "the tuple has 2 items, not one at 5", "there are 0 to 1"),
    Case(
        "x = 'abc'[limit]",
        "'abc'[limit]",
        "a constant text is indexed by a constant within it",
        "store it in a bpf.char field first",
    ),
    Case(
        "e = Entry()\nx = e.name[1:limit]",
        "1:limit",
        "how long the slice is must be known while compiling",
        "write [i : i + 16]; for fewer bytes helpers take size=n",
    ),
    Case(
        "e = Entry()\ne.name[limit:] = 'x'",
        "limit:",
        "the slice may begin at 4294967295, there are 8 elements",
        "test it first: if i < 8; what is left after the largest is taken",
    ),
    Case(
        "e = Entry()\nx = e.name[e.small : e.small + 4]",
        "e.small : e.small + 4",
        "the slice may begin at 255, and 4 elements from there are not all within char(8)",
        "keep it in a variable and test that: i = e.small; if i <= 4",
    ),
    Case(
        "e = Entry()\nx = e.cells[e.small]",
        "e.cells[e.small]",
        "the index may be 255, array(u32, 4) has elements 0 to 3",
        "keep it in a variable and test that: i = e.small; if i < 4",
    ),
    Case("e = Entry()\nx = e.name[6:2]", "6:2", "the slice is empty", "its end comes after its beginning"),
    Case("e = Entry()\nx = e.name[::2]", "::2", "a slice takes neighbours only", "take single elements"),
    Case(
        "x = limit[1:2]",
        "1:2",
        "an integer has no slices",
        "texts, bytes and arrays in memory have: store it in one first",
    ),
    Case(
        "x = limit.value",
        "limit.value",
        "an integer has no field 'value'",
        "enumerators are their numbers",
    ),
    Case("x = limit()", "limit()", "an integer cannot be called", "functions, types and helpers can"),
    Case(
        "bpf.printk('a', 1)", "bpf.printk('a', 1)", "bpf.printk() takes one text", 'bpf.printk(f"pid {pid}")'
    ),
    Case("bpf.printk(limit)", "limit", "an integer is no text", 'bpf.printk(f"{x}")'),
    Case(
        "bpf.printk(f'{limit:.3f}')",
        "limit",
        "format '.3f' is not compiled",
        "d, x, X, c, a width",
    ),
    Case(
        "e = Entry()\nbpf.printk(f'{e.name!r}')",
        "e.name",
        "!r and !a are not compiled, and {x=} is {x!r}",
        "write {x} or {x!s}",
    ),
    Case(
        "bpf.printk(f'{table}')",
        "table",
        "map table is no integer (printk prints integers and texts)",
        "give a number, or one of its fields",
    ),
    Case(
        "bpf.printk(f'{entries.get(1)}')",
        "entries.get(1)",
        "entries.get(1) may be None here",
        "give it a name, and test that: x = entries.get(1); if x is None: return ...",
    ),
    Case("x = min()", "min()", "min() needs numbers, or a tuple of them", "min(a, b)"),
    Case("x = u32(1, 2)", "u32(1, 2)", "u32() takes 1 argument, 2 are given", "u32(x)"),
    Case("x = u32('a')", "'a'", "a text is no integer (for u32())", "texts go in bpf.char fields"),
    Case("return 'text'", "'text'", "a text is no integer (as a result)", "texts go in bpf.char fields"),
    Case(
        "return Entry()",
        "Entry()",
        "Entry is no integer (as a result)",
        "give a number, or one of its fields",
    ),
    Case("return None", "return None", "main() may end without a value", "return a number on every path"),
    Case(
        "if limit:\n    return 1\nelse:\n    pass\npass",
        "def main(ctx: bpf.Xdp) -> int:",
        "main() may end without a value",
        "return a number on every path",
    ),
    Case(
        "x: bytes = bpf.char(600)",
        "x: bytes = bpf.char(600)",
        "600 bytes do not fit the stack of a program, which has 512",
        "keep it in a map: scratch = bpf.PerCpuArray(T, 1); x = scratch[0]",
    ),
    Case(
        "silent(1)",
        "None",
        "a function that is verified by itself gives a number back",
        "write -> int and return 0, or leave global_=True out",
    ),
    Case("yield 5", "yield 5", "yield is not compiled", "send records through a ring buffer: bpf.RingBuf"),
    Case(
        "pkt = ctx.packet()\nip = pkt.take(iphdr)\nx = ip.saddr",
        "ip.saddr",
        "ip may be None here",
        "test it first: if ip is None: return ...",
    ),
    Case(
        "x = ctx.no_such_field",
        "ctx.no_such_field",
        "bpf.Xdp has no field 'no_such_field'",
        "there are: ingress_ifindex, rx_queue_index, egress_ifindex, packet",
    ),
    Case(
        "ctx.ingress_ifindex = 5",
        "ctx.ingress_ifindex",
        "bpf.Xdp.ingress_ifindex cannot be set by a program of this type",
        "it can be read",
    ),
    Case(
        "x = bpf.get_socket_cookie()",
        "bpf.get_socket_cookie()",
        "xdp programs cannot call bpf_get_socket_cookie",
        "Linux 4.12 and later: socket_filter, sched_cls",
    ),
    Case("array[16] += 1", "array[16]", "map array has no element 16: there are 0 to 15", "make it larger"),
    Case(
        "array[limit] += 1",
        "array[limit]",
        "the index may be 4294967295, map array has elements 0 to 15",
        "test it first",
    ),
    Case(
        "x = entries.get(1).count",
        "entries.get(1).count",
        "entries.get(1) may be None here",
        "give it a name, and test that: x = entries.get(1)",
    ),
    Case("x = queue.pop() + 1", "queue.pop()", "queue.pop() may be None here", "give it a name"),
    Case("return table.get(1)", "table.get(1)", "table.get(1) may be None here", "give it a name"),
    Case(
        "return table.get(1) if limit else None",
        "table.get(1) if limit else None",
        "table.get(1) if limit else None may be None here",
        "give it a name",
    ),
    Case(
        "table[1] = Entry()",
        "Entry()",
        "Entry is no integer (to store it as u64)",
        "give a number, or one of its fields",
    ),
    Case(
        "entries[1] = Record(1)",
        "Record(1)",
        "Record cannot be stored as Entry",
        "give a value of type Entry",
    ),
    Case("e = Entry()\ne.small = limit.x", "limit.x", "an integer has no field 'x'", "structs"),
    Case(
        "e = Entry()\ne.cells = 5",
        "5",
        "an integer cannot be stored as array(u32, 4)",
        "give a value of type",
    ),
    Case(
        "e = Entry()\nx = e.name + 1", "e.name", "char(8) is no integer", "single bytes are numbers: text[0]"
    ),
    Case("x = (1, 2) + 1", "(1, 2)", "a tuple is no integer", "take one of its items"),
    Case(
        "table['10.0.0.1'] = 1",
        "'10.0.0.1'",
        "a text is no integer (to store it as u32)",
        "as a number: 0x0A000001",
    ),
    Case(
        "events.output(Entry())", "Entry()", "events has records of type Record, this is Entry", "send Record"
    ),
    Case(
        "global table\ntable = 5",
        "table = 5",
        "table is no global variable of the program",
        "it is a map: table[key] = value",
    ),
    Case(
        "table += 1",
        "table",
        "table may be used before it has a value",
        "it is assigned here, so the module's table is another one",
    ),
    Case("for x in Entry():\n    pass", "Entry()", "Entry cannot be looped over", "loop over range(...)"),
    Case("for i, j in range(3):\n    pass", "i, j", "an integer cannot be unpacked", "unpack a tuple"),
    Case(
        "for i in reversed(range(3)):\n    pass",
        "reversed(range(3))",
        "reversed() does not exist inside a program",
        "count down: range(n - 1, -1, -1)",
    ),
    Case("x = hex(limit)", "hex(limit)", "hex() does not exist inside a program", 'bpf.printk(f"{x:#x}")'),
    Case(
        "x = Color.RED.name",
        "Color.RED.name",
        "an integer has no field 'name'",
        "enumerators are their numbers",
    ),
    Case("x = bpf.pid + 1", "bpf.pid", "bpf.pid is no integer", "call it: bpf.pid()"),
    Case(
        "x = bpf.redirect()",
        "bpf.redirect()",
        "bpf.redirect(): 'ifindex' is missing",
        "in C: bpf_redirect(ifindex, flags)",
    ),
    Case(
        "bpf.task_release(5)",
        "5",
        "bpf.task_release(): 'p' is a struct task_struct *, not an integer",
        "give a struct task_struct *",
    ),
    Case("pkt = ctx.packet()\nx = pkt.take()", "pkt.take()", "take() takes one argument", "pkt.take(iphdr)"),
    Case(
        "pkt = ctx.packet()\neth = pkt.take(ethhdr)\nif eth is None:\n    return 1\neth.source = 5",
        "5",
        "an integer cannot be stored as raw(6)",
        "bytes, as b",
    ),
    Case(
        "jumps = 5\nx = table.lookup(1, 2)",
        "table.lookup(1, 2)",
        "lookup() takes 1 argument, 2 are given",
        "lookup(key)",
    ),
    Case(
        "table[bpf.current_task()] = 1",
        "bpf.current_task()",
        "struct task_struct is an address, which does not fit u32",
        "keep it as u64",
    ),
    Case(
        "d = b'x'\nx = bpf.dynptr_from_xdp(0, d)",
        "d",
        "bpf.dynptr_from_xdp(): 'ptr__uninit' is a struct bpf_dynptr *, not a text",
        "give a struct bpf_dynptr *",
    ),
    Case("return XDP_DROP", "XDP_DROP", "'XDP_DROP' is not defined", "did you mean bpf.XDP_DROP?"),
    Case("v = table.get(1)\nv += 1", "v", "v may be None here", "test it first: if v is None: return ..."),
    Case(
        "p = table.lookup(1)\nif p:\n    p += 1",
        "p",
        "p refers to u64 in memory, and this would not change that",
        "p.value += 1",
    ),
    Case(
        "p = table.lookup(1)\nif p is not None:\n    p[0] += 1",
        "p[0] += 1",
        "u64 has no elements",
        "the number is p.value",
    ),
    Case(
        "e = Entry()\ne.name = 5", "5", "an integer cannot be stored as char(8)", 'a text: "abc", bpf.comm()'
    ),
    Case(
        "x = outer[1]", "outer[1]", "map outer has no elements", "outer.get(key) gives the inner map, or None"
    ),
    Case(
        "jumps[1](ctx)",
        "jumps[1]",
        "map jumps has no elements",
        "jumps.tail_call(index) jumps to the program",
    ),
    Case(
        "total += 1",
        "total",
        "total may be used before it has a value",
        "say that the program's own is meant: global total",
    ),
    Case(
        'bpf.printk("{}".format(limit))',
        '"{}".format',
        "a text has no field 'format'",
        'bpf.printk(f"{x}") prints it so',
    ),
    Case(
        'bpf.trace_printk("%d", 1)',
        'bpf.trace_printk("%d", 1)',
        "bpf.trace_printk(): too many arguments",
        'bpf.printk(f"pid {pid}")',
    ),
    Case(
        "time.sleep(1)",
        "time.sleep(1)",
        "sleep() cannot be called in a program",
        "programs never wait: a bpf.Timer",
    ),
    Case(
        "x = [0] * 8", "[0] * 8", "a tuple is not repeated", "xs = bpf.array(u64, 8) is eight numbers, all 0"
    ),
    Case(
        "x = []\nx.append(1)",
        "x.append",
        "a tuple has no field 'append'",
        "xs = bpf.array(u64, 8), and a number that counts",
    ),
    Case(
        "x = bytes(16)\nx[0] = 1",
        "x[0]",
        "elements of a text cannot be set",
        "those of arrays and tables can, and those of buf = bpf.raw(16)",
    ),
    Case(
        "e = Entry()\nif e.name[0] == 'a':\n    return 1",
        "e.name[0] == 'a'",
        "an integer cannot be compared with a text",
        "one byte of a text is a number: ord('a')",
    ),
    Case(
        "x = table.get(1) or 0",
        "table.get(1)",
        "'and' and 'or' give truth values here, and this is an integer or None",
        "say the default: table.get(key, 0)",
    ),
    Case(
        "x = ctx.packet()[12]",
        "ctx.packet()[12]",
        "a packet has no elements",
        "pkt.skip(12); x = pkt.take(be16)",
    ),
    Case(
        "x = bpf.var(0)",
        "bpf.var(0)",
        "bpf.var() declares a global variable, and this is inside a program",
        "declare it at module level, or leave it out: x = 0",
    ),
    Case(
        'mac = ethhdr()\nmac.dest = "02:00:00:00:00:01"',
        "mac.dest",
        "a constant of 17 bytes does not fit raw(6)",
        "exactly 6 bytes: b",
    ),
    Case(
        "x = u8(1) if limit else 'a'",
        "u8(1) if limit else 'a'",
        "the two sides differ: an integer and a text",
        "give both the same type",
    ),
]
