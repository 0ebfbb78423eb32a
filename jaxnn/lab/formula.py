"""Formulas that a user types, such as "sin(3*x1)*x2", as functions; nothing of Python is run."""

import ast
import operator
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from jaxnn.lab.config import BadUsageError

FUNCTIONS = {name: getattr(jnp, name) for name in ("sin", "cos", "tan", "exp", "log", "sqrt", "abs", "tanh")}
BINARY: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
UNARY: dict[type, Callable] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def parse(text: str, variables: Sequence[str]) -> Callable:
    """The function of the variables, in their order: numbers, pi, + - * / **, parentheses, and the FUNCTIONS of jnp.

    Raises BadUsageError that shows where the formula cannot be read.
    """
    if len(text) > 500:
        raise BadUsageError("the formula is longer than 500 characters")
    text = text.strip()
    for position, character in enumerate(text):
        if character in "#\n\r\\":
            raise _unreadable(text.splitlines()[0], position, "a formula is one line without comments")
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = getattr(error, "offset", None) or 1
        raise _unreadable(text, offset - 1, "this cannot be read as a formula") from error

    def function(*values):
        return _evaluate(body, {"pi": jnp.asarray(jnp.pi), **dict(zip(variables, values, strict=True))}, text)

    try:
        function(*[jnp.ones(())] * len(variables))  # finds what is not allowed
    except RecursionError as error:
        raise _unreadable(text, 0, "this is nested too deeply") from error
    return function


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


def _unreadable(text, position, problem):
    return BadUsageError(f"{problem} (character {position + 1}):\n  {text}\n  {' ' * position}^")
