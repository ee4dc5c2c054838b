"""The public names of `skep`, and what `import skep` may load."""

from __future__ import annotations

import subprocess
import sys

import skep

#: Adding a name is a decision: write it here too.
SURFACE = ["Filter", "SkepError", "__version__", "load"]

#: Modules that make start-up slow or belong to the compiler.
HEAVY = ["llvmlite", "numpy", "rich", "dataclasses", "inspect", "ast", "asyncio", "typing_extensions"]


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_public_names() -> None:
    assert sorted(skep.__all__) == SURFACE
    for name in SURFACE:
        assert getattr(skep, name) is not None


def test_import_skep_loads_nothing_heavy() -> None:
    bare = loaded_by("pass")
    new = loaded_by("import skep") - bare
    assert not new & set(HEAVY)
    assert {name for name in new if name.startswith("skep.")} == set()


def test_unknown_name_is_an_attribute_error() -> None:
    try:
        skep.no_such_name  # noqa: B018 - the access is the test
    except AttributeError as error:
        assert "no_such_name" in str(error)
    else:
        raise AssertionError("skep.no_such_name exists")
