"""The mutants of ``make mutate``: which changes there are, and which have been judged."""

from __future__ import annotations

from pathlib import Path

import judged
import pytest
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]


def changed(text: str) -> set[str]:
    """Returns the first lines of ``text`` that its mutants have in place of those that it has."""
    return {one.new for one in mutants("module.py", text)}


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a is not None", {"x = a is None"}),
        ("x = not a", {"x = (a)"}),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x = a + b", {"x = (a - b)"}),
        ("x = 1", {"x = 2", "x = (0)"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = True", {"x = False"}),
        ("x = a and b", {"x = (a or b)", "x = (a)", "x = (b)"}),
        ("x = [a, b]", {"x = [a]", "x = [b]"}),
        ("x = Code.ABORTED", {"x = Code.UNKNOWN"}),
        ("x = f(a, code=b)", {"x = f(a)"}),
        ("x.y = a", {"pass"}),
        ("x += a", {"pass", "x -= a"}),
        ("f()", {"pass"}),
        ("raise a", {"pass"}),
        ("del x[a]", {"pass"}),
        ("x = f'SELECT a WHERE {b} = ?'", {"x = f'SELECT a WHERE {b} != ?'"}),
        ("x = re.compile('a+')", {"x = re.compile('a*')"}),
        ("if a: pass", {"if True: pass", "if False: pass", "if (not (a)): pass"}),
        (
            "x = [a for a in b if a]",
            {f"x = [a for a in b if {c}]" for c in ("True", "False", "(not (a))")},
        ),
    ],
)  # fmt: skip
def test_each_mistake_that_could_be_made_is_a_mutant(text: str, others: set[str]) -> None:
    assert changed(text) == others


@pytest.mark.parametrize(
    "text",
    [
        '"""A docstring of 3 words."""',
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "__all__ = ['a']",
        "A = Callable[[int], B | None]",
        "if TYPE_CHECKING:\n    x = 1",
        "def f():\n    return None",
        "x = f'a text for people, {a}'",
    ],
)
def test_what_is_only_read_has_no_mutants(text: str) -> None:
    assert changed(text) == set()


def test_a_mutant_of_several_lines_is_told_by_the_first_that_differs() -> None:
    text = "x = f(\n    a,\n    b=1,  # ä\n)\n"
    (number,) = [one for one in mutants("module.py", text) if one.replacement == "2"]
    assert (number.line, number.old, number.new) == (3, "b=1,  # ä", "b=2,  # ä")
    assert number.applied(text) == text.replace("1", "2")


def test_a_mutant_that_is_no_python_is_known() -> None:
    text = "def f():\n    nonlocal_ = 1\n"
    (first, _) = mutants("module.py", text)
    assert first.compiles(text)
    assert not Mutant("module.py", 1, "", "", "", 0, 3, "dif").compiles(text)


def test_every_judgement_has_its_reason() -> None:
    assert judged.unknown(judged.read().values()) == []


def test_a_judgement_holds_for_its_line_alone(tmp_path: Path) -> None:
    (one, other) = mutants("lro_grpc/module.py", "x = 1\n")
    path = tmp_path / "judged.txt"
    path.write_text(judged.entry(one, "harmless: nobody sees it"))
    known = judged.read(path)
    assert known[judged.key(one)] == "harmless: nobody sees it"
    assert judged.key(other) not in known
    path.write_text("not an entry\n")
    with pytest.raises(ValueError, match="not an entry"):
        judged.read(path)
