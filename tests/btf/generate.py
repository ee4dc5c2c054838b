"""C declarations at random: layouts and declarators nobody wrote by hand."""

from __future__ import annotations

import random

SCALARS = ["char", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned", "long"]
SCALARS += ["unsigned long", "long long", "_Bool", "float", "double", "__int128"]
BITFIELDS = {"char": 8, "unsigned short": 16, "int": 32, "unsigned": 32, "unsigned long": 64, "_Bool": 1}


class Source:
    """A C file with `count` types; the same seed gives the same text."""

    def __init__(self, seed: int, count: int = 25) -> None:
        self.rng = random.Random(seed)
        self.whole: list[str] = []  # types that may be embedded
        self.known: list[str] = [f"struct s{i}" for i in range(count)]  # types that may be pointed to
        self.lines: list[str] = []
        self.level = 0
        self.names = 0
        for number in range(count):
            self.one(number)

    @property
    def text(self) -> str:
        uses = [f"{kind} use_{i};" for i, kind in enumerate(self.whole)]
        return "\n".join([*self.lines, *uses, ""])

    def one(self, number: int) -> None:
        rng = self.rng
        what = rng.random()
        if what < 0.15:
            self.lines.append(f"enum e{number} {self.enumerators()};")
            self.whole.append(f"enum e{number}")
        elif what < 0.4:
            self.lines.append(
                f"typedef {self.declare(f't{number}', rng.choice(['', 'const ', 'volatile ']))};"
            )
            self.whole.append(f"t{number}")
        else:
            word = "struct" if what < 0.85 else "union"
            name = f"{word} {'s' if word == 'struct' else 'u'}{number}"
            self.lines.append(f"{name} {self.body()};")
            self.whole.append(name)

    def fresh(self, prefix: str) -> str:
        """A name that nothing else has."""
        self.names += 1
        return f"{prefix}{self.names}"

    def enumerators(self) -> str:
        rng = self.rng
        choices = [0, 1, 7, -3, 255, 1 << 31, 1 << 40, -(1 << 35)]
        values = [f"{self.fresh('E')} = {rng.choice(choices)}" for _ in range(rng.randrange(1, 5))]
        return f"{{ {', '.join(values)} }}{rng.choice(['', '', ' __attribute__((packed))'])}"

    def body(self) -> str:
        rng = self.rng
        self.level += 1
        members = [self.member() for _ in range(rng.randrange(0 if self.level == 1 else 1, 9))]
        self.level -= 1
        attribute = rng.choice(["", "", "", " __attribute__((packed))", " __attribute__((aligned(16)))"])
        return "{ " + " ".join(members) + " }" + attribute

    def member(self) -> str:
        rng = self.rng
        name = self.fresh("m")
        what = rng.random()
        if what < 0.25:
            base = rng.choice(list(BITFIELDS))
            bits = rng.randint(1, BITFIELDS[base])
            pad = f"{base} : {rng.choice([0, bits])}; " if rng.random() < 0.2 else ""
            return f"{pad}{base} {name} : {bits};"
        if what < 0.35 and self.level < 4:
            label = rng.choice(["", "", name, f"*{name}", f"{name}[2]"])
            return f"{rng.choice(['struct', 'union'])} {self.body()} {label};"
        if what < 0.4:
            return f"enum {self.enumerators()} {name};"
        aligned = rng.choice(["", "", "", "", "", " __attribute__((aligned(8)))"])
        return f"{self.declare(name, rng.choice(['', '', '', 'const ', 'volatile ']))}{aligned};"

    def declare(self, name: str, qualifier: str = "") -> str:
        """``name`` declared with a random type: pointers, arrays and functions nested around it."""
        rng = self.rng
        declarator = name
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
            step = rng.randrange(3)
            if step == 0:
                declarator = f"({rng.choice(['*', '*', '*const ', '*volatile '])}{declarator})"
            elif step == 1:
                declarator = f"{declarator}[{rng.randrange(1, 5)}]"
            else:
                params = ", ".join(self.parameter() for _ in range(rng.randrange(3)))
                return f"{self.result()} (*{declarator})({params or 'void'})"
        if declarator.endswith(")") and rng.random() < 0.5:  # only pointers may be to what is not complete
            return f"{qualifier}{rng.choice([*self.known, 'void', *SCALARS])} {declarator}"
        base = rng.choice(SCALARS if not self.whole or rng.random() < 0.6 else self.whole)
        return f"{qualifier}{base} {declarator}"

    def parameter(self) -> str:
        name = self.rng.choice(["", self.fresh("p"), f"const {self.fresh('p')}"])
        return f"{self.rng.choice([*SCALARS, *self.known])} *{name}"

    def result(self) -> str:
        return self.rng.choice(["void", "int", "void *", f"{self.rng.choice(self.known)} *"])
