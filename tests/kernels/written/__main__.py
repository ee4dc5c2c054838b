"""Inside: ``python -m tests.kernels.written NAME OBJECT`` plays a program of this folder."""

import importlib
import sys

import skep


def main() -> None:
    name, path = sys.argv[1:]
    played = importlib.import_module(f"tests.kernels.written.{name}")
    with skep.load(path) as obj:
        played.play(obj)
    print(f"{name} played")


if __name__ == "__main__":
    main()
