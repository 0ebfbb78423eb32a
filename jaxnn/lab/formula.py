"""Formulas that a user types, such as "sin(3*x1)*x2", as functions; nothing of Python is run."""

import ast
import operator
import warnings
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnn.lab.config import BadUsageError

FUNCTIONS = {name: getattr(jnp, name) for name in ("sin", "cos", "tan", "atan", "tanh", "exp", "log", "sqrt", "abs")}
BINARY: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
UNARY: dict[type, Callable] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
MAX_DEPTH = 200  # of operations in each other: whoever calls the function needs some of Python's stack, too


def parse(text: str, variables: Sequence[str]) -> Callable:
    """The function of the variables, in their order: numbers, pi, + - * / **, parentheses, and the FUNCTIONS of jnp.

    Raises BadUsageError that shows where the formula cannot be read.
    """
    if len(text) > 500:
        raise BadUsageError("the formula is longer than 500 characters")
    text = text.strip()
    for position, character in enumerate(text):
        if character in "#\\" or not character.isprintable():
            raise _unreadable(text[:position], position, "a formula is one line without comments")
    try:
        with warnings.catch_warnings(action="ignore"):  # of "1or 2", which is refused below
            body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = getattr(error, "offset", None) or 1
        raise _unreadable(text, offset - 1, "this cannot be read as a formula") from error

    def function(*values):
        result = _evaluate(body, {"pi": jnp.asarray(jnp.pi), **dict(zip(variables, values, strict=True))}, text)
        return jnp.broadcast_to(result, jnp.broadcast_shapes(*map(jnp.shape, values)))  # a constant is a function, too

    if _depth(body) > MAX_DEPTH:
        raise _unreadable(text, 0, "this is nested too deeply")
    function(*[jnp.ones(())] * len(variables))  # finds what is not allowed
    return function


def title(text: str) -> str:
    """A formula that `parse` can read, as matplotlib sets it in mathematics; of a long one, the beginning as it is."""
    return f"${_set(ast.parse(text.strip(), mode='eval').body)[0]}$" if len(text) <= 40 else f"{text[:40]}..."


def largest(function: Callable, limit: float) -> float:
    """The largest size of a function of x1 and x2 on [-limit, limit]², infinite where it is not a number.

    A grid of 201 x 201 points, then five finer ones, each around the largest value: at a pole it grows without end.
    """
    centre, half = np.zeros(2), limit
    found = []
    for _ in range(6):
        x1, x2 = np.clip(np.meshgrid(*centre[:, None] + half * np.linspace(-1, 1, 201)), -limit, limit)
        sizes = np.nan_to_num(np.abs(function(jnp.asarray(x1), jnp.asarray(x2))), nan=np.inf, posinf=np.inf)
        row, column = np.unravel_index(sizes.argmax(), sizes.shape)
        centre, half = np.array([x1[row, column], x2[row, column]]), half / 50
        found.append(float(sizes.max()))
    return max(found)


def _depth(node: ast.AST) -> int:
    """How many operations are in each other."""
    depth, nodes = 0, [node]
    while nodes := [child for node in nodes for child in ast.iter_child_nodes(node)]:
        depth += 1
    return depth


def _evaluate(node, values, text):
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            try:
                return jnp.asarray(float(number))
            except OverflowError:
                problem = "this number is too large"
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            return BINARY[type(op)](_evaluate(left, values, text), _evaluate(right, values, text))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
            return UNARY[type(op)](_evaluate(operand, values, text))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](_evaluate(argument, values, text))
        case ast.BinOp(op=ast.BitXor()):
            problem = "a power is written **"
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            problem = f"{name} takes one value"
        case _:
            known = ", ".join([*values, *FUNCTIONS])
            problem = f"this is not known here; numbers, + - * / ** and {known} are"
    raise _unreadable(text, len(text.encode()[: node.col_offset].decode()), problem)


def _set(node) -> tuple[str, int]:
    """TeX of a formula, and how strongly it holds together: 1 a sum, 2 -x, 3 a product, 4 a power, 5 one symbol."""
    match node:
        case ast.Constant(value=value):
            mantissa, _, exponent = f"{value:g}".partition("e")
            return (rf"{mantissa} \cdot 10^{{{int(exponent)}}}", 3) if exponent else (mantissa, 5)
        case ast.Name(id=name):
            return (r"\pi" if name == "pi" else f"{name[0]}_{{{name[1:]}}}"), 5  # x1, x2
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return rf"\frac{{{_set(left)[0]}}}{{{_set(right)[0]}}}", 3
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return f"{_enclosed(left, 5)}^{{{_set(right)[0]}}}", 4
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factor = _enclosed(right, 3)
            times = r"\cdot" if factor[0].isdigit() else r"\,"
            return f"{_enclosed(left, 2)} {times} {factor}", 3
        case ast.BinOp(left=left, op=op, right=right):
            return f"{_enclosed(left, 1)} {'-' if isinstance(op, ast.Sub) else '+'} {_enclosed(right, 3)}", 1
        case ast.UnaryOp(op=op, operand=operand):
            return f"{'-' if isinstance(op, ast.USub) else '+'}{_enclosed(operand, 3)}", 2
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            inside = _set(argument)[0]
            if name in ("sqrt", "abs"):
                return (rf"\sqrt{{{inside}}}" if name == "sqrt" else f"|{inside}|"), 5
            return rf"\{'arctan' if name == 'atan' else name}({inside})", 4
    raise ValueError(f"title: this is no formula: {ast.unparse(node)}")


def _enclosed(node, strength: int) -> str:
    """TeX of a part of a formula, in parentheses where it would fall apart there."""
    text, own = _set(node)
    return text if own >= strength else f"({text})"


def _unreadable(text, position, problem):
    return BadUsageError(f"{problem} (character {position + 1}):\n  {text}\n  {' ' * position}^")
