"""Writes docs/api.md, the page of the whole API, from signatures and docstrings; `make docs` calls it.

The sources are read, not imported: annotations stay as they are written, such as `Float[Array, "*batch classes"]`.
"""

import ast
import inspect
import re
import sys
from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[1]
WIDTH = 88  # of a signature in one line
INTRODUCTION = """\
# API

All that is public, room by room, from signatures and docstrings; `make docs` writes this page. `import jaxnn` brings
the pure rooms except `jaxnn.cnn`, which needs the extra `flax`; `jaxnn.lab` needs the extra `lab`. A shape such as
`Float[Array, "*batch classes"]` is [jaxtyping](https://docs.kidger.site/jaxtyping/)'s: floats whose last axis is the
classes, behind any number of batch axes.
"""


def main():
    """The page, written."""
    (ROOT / "docs" / "api.md").write_text(make_page())


def make_page() -> str:
    """Pure rooms first, then the lab, then `experiments`. An entry is a heading `room.name`, a signature and words."""
    lab, pure = ROOT / "jaxnn" / "lab", ROOT / "jaxnn"
    paths = [*sorted(pure.glob("[!_]*.py")), *sorted(lab.glob("[!_]*.py")), ROOT / "experiments" / "__init__.py"]
    rooms = {name_of(path): path.read_text() for path in paths}
    known = {f"{short(room)}.{name}" for room, source in rooms.items() for name, _, _ in entries(source)}
    parts = [INTRODUCTION, " · ".join(f"[{short(room)}](#{room.replace('.', '')})" for room in rooms)]
    for room, source in rooms.items():
        said = [f"## {room}", words(ast.parse(source))]
        for name, code, docstrings in entries(source):
            said += [f"### `{short(room)}.{name}`", code, *docstrings]
        parts += [with_links(text, short(room), known) for text in said if text]
    return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def name_of(path: Path) -> str:
    """The name by which a room is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def short(room: str) -> str:
    """The name of a room without `jaxnn.`, as whoever has imported it writes it."""
    return room.removeprefix("jaxnn.")


def entries(source: str):
    """Name, code and words of all that is public. Words about a constant stand below it as a string, or behind it."""
    tree = ast.parse(source)
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.FunctionDef(name=name):
                code, docstrings = signature(name, node), [words(node)]
            case ast.ClassDef(name=name):
                code, docstrings = fields(node), [words(node), *words_of_methods(node)]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                code, _, comment = source.splitlines()[node.lineno - 1].partition("  # ")
                code = code if node.lineno == node.end_lineno else f"{code} ..."
                is_string = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                docstrings = [inspect.cleandoc(below.value.value) if is_string else comment[:1].upper() + comment[1:]]
            case _:
                continue
        if not name.startswith("_") and name != "log":
            yield name, in_python(code), docstrings


def words(node) -> str:
    """The docstring in Markdown: a line about a parameter or a field, `name: ...`, becomes an item of a list."""
    inside = list(ast.walk(node))
    names = {part.arg for part in inside if isinstance(part, ast.arg)}
    names |= {
        part.target.id for part in inside if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }

    def item(match):
        return f"- `{match[1]}`: " if names.issuperset(match[1].split(", ")) else match[0]

    return re.sub(r"^(\w+(?:, \w+)*): ", item, ast.get_docstring(node) or "", flags=re.MULTILINE)


def fields(node: ast.ClassDef) -> str:
    """How an object of the class is made, or the bases and the fields."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    head = f"{node.name}({bases})" if bases else node.name
    inside = [in_source(part) for part in node.body if isinstance(part, ast.AnnAssign)]
    for method in methods(node):
        if method.name == "__init__":
            head = signature(node.name, method)
        elif method.name == "__call__":
            inside.append(signature("__call__", method))
    body = "".join(f"\n{indent(part, '    ')}" for part in inside)
    return f"class {head}:{body}" if inside else f"class {head}"


def words_of_methods(node: ast.ClassDef) -> list[str]:
    """Of those that are public, the signatures and the words."""
    public = [method for method in methods(node) if not method.name.startswith("_")]
    signatures = [in_python(signature(f"{node.name}.{method.name}", method)) for method in public]
    return [part for pair in zip(signatures, map(words, public), strict=True) for part in pair]


def methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """The functions in a class."""
    return [part for part in node.body if isinstance(part, ast.FunctionDef)]


def signature(name: str, node: ast.FunctionDef) -> str:
    """`name(a: int, *, b: int = 1) -> int`, in one line or a line for each parameter."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
    parts = [parameter(*pair) for pair in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        parts.append(f"*{parameter(arguments.vararg)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        parts.append(f"**{parameter(arguments.kwarg)}")
    parts = [part for part in parts if part != "self"]
    returns = f" -> {in_source(node.returns)}" if node.returns else ""
    line = f"{name}({', '.join(parts)}){returns}"
    inner = ",\n    ".join(parts)
    return line if len(line) <= WIDTH else f"{name}(\n    {inner},\n){returns}"


def parameter(argument: ast.arg, default: ast.expr | None = None) -> str:
    """With its annotation and its default."""
    equals = " = " if argument.annotation else "="
    return in_source(argument) if default is None else f"{in_source(argument)}{equals}{in_source(default)}"


def in_source(node: ast.AST) -> str:
    """As Python writes it, with double quotes."""
    return ast.unparse(node).replace("'", '"')


def in_python(code: str) -> str:
    """A block of code in Markdown."""
    return f"```python\n{code}\n```"


def with_links(text: str, room: str, known: set[str]) -> str:
    """Names of the API, `name` of the same room or `room.name`, with links. One of a room that lacks it is an error."""
    rooms = {name.rpartition(".")[0] for name in known}

    def link(match):
        name = match[1].removeprefix("jaxnn.")
        full = name if name in known else f"{room}.{name}"
        if full in known:
            return f"[`{match[1]}`](#{full.replace('.', '').lower()})"
        if name.rpartition(".")[0] in rooms:
            sys.exit(f"the docstrings of {room} name `{match[1]}`, which is not there")
        return match[0]

    if text.startswith(("#", "```")):
        return text
    return re.sub(r"(?<!\[)`([\w.]+)`", link, text)


if __name__ == "__main__":
    main()
