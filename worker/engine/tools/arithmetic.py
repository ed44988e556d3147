"""Arithmetic that a model may ask for: exact where it can be, bounded where it must be, and nothing else.

Numbers are decimal, so that 0.1 + 0.2 is 0.3, with 50 significant digits. What an expression may contain is listed here;
everything that is not listed is refused unseen, and no name is ever looked up anywhere but in this module.
"""

from __future__ import annotations

import ast
import re
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from typing import TYPE_CHECKING, ClassVar, Final

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_CHARACTERS: Final = 500
"""Of an expression."""

MAX_EXPONENT: Final = 1000
"""Of a power."""

DIGITS: Final = 50
"""Significant digits of a result."""

MAX_MAGNITUDE: Final = 10_000
"""Results have at most so many digits before the point, or zeros behind it; they are written with an exponent."""

_NUMBER: Final = re.compile(r"(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d{1,5})?", re.ASCII)
_SIGNS: Final = str.maketrans({"\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-"})
_CONTEXT: Final = Context(
    prec=DIGITS,
    rounding=ROUND_HALF_EVEN,
    Emin=-MAX_MAGNITUDE,
    Emax=MAX_MAGNITUDE,
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
_EXACT: Final = Context(prec=MAX_CHARACTERS, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[InvalidOperation])


class NotArithmetic(TurnWorkerError):
    """An expression cannot be worked out; the message tells the model how to write it."""

    code: ClassVar[str] = "not_arithmetic"


def evaluate(expression: str) -> str:
    """Work out an expression and write down its value.

    Args:
        expression: Numbers, `+ - * / // % **` (also `^`), parentheses, and the functions abs, ceil, floor, max, min,
            round and sqrt.

    Raises:
        NotArithmetic: It is too long, not arithmetic, or has no value that can be written down.
    """
    if len(expression) > MAX_CHARACTERS:
        raise NotArithmetic(
            f"The expression has {len(expression)} characters; at most {MAX_CHARACTERS} are worked out."
        )
    source = expression.translate(_SIGNS).replace("^", "**").strip()
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise NotArithmetic("It is not an arithmetic expression. Write one such as (3 + 4) * 2.5.") from None
    try:
        return _written(_value(tree.body, source))
    except (DivisionByZero, ZeroDivisionError):
        raise NotArithmetic("Something is divided by zero.") from None
    except Overflow:
        raise NotArithmetic(f"A number has more than {MAX_MAGNITUDE:,} digits.") from None
    except DecimalException:
        raise NotArithmetic("There is no such number, as with the root of a negative one.") from None
    except RecursionError:
        raise NotArithmetic("It is nested too deeply.") from None


def _value(node: ast.expr, source: str) -> Decimal:
    match node:
        case ast.Constant():
            return _number(ast.get_source_segment(source, node) or "")
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, source)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _value(operand, source).copy_negate()
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, source), _value(right, source))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _called(name, [_value(argument, source) for argument in arguments])
        case ast.Tuple():
            raise NotArithmetic("Write numbers without thousands separators, and one expression at a time.")
        case _:
            names = ", ".join(_FUNCTIONS)
            raise NotArithmetic(f"Only numbers, + - * / // % **, parentheses and {names} can be worked out.")


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise NotArithmetic(f"{text[:40]} is not a decimal number.")
    return _CONTEXT.create_decimal(text.replace("_", ""))


def _called(name: str, arguments: list[Decimal]) -> Decimal:
    least, most, function = _FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise NotArithmetic(f"{name} takes {wanted} numbers.")
    return function(*arguments)


def _divided(left: Decimal, right: Decimal) -> tuple[Decimal, Decimal]:
    """Quotient and remainder, rounded down: the remainder has the divisor's sign, as in everyday use of `%`."""
    if not right:
        raise DivisionByZero
    quotient = _CONTEXT.divide_int(left, right)
    remainder = _CONTEXT.subtract(left, _CONTEXT.multiply(quotient, right))
    if remainder and (remainder < 0) != (right < 0):
        return _CONTEXT.subtract(quotient, Decimal(1)), _CONTEXT.add(remainder, right)
    return quotient, remainder


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > MAX_EXPONENT:
        raise NotArithmetic(f"The exponent of a power may be at most {MAX_EXPONENT}.")
    if not base and exponent < 0:
        raise DivisionByZero
    return Decimal(1) if not exponent else _CONTEXT.power(base, exponent)


def _rounded(value: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    if places != places.to_integral_value() or abs(places) > DIGITS:
        raise NotArithmetic(f"round takes a whole number of places, at most {DIGITS}.")
    return value.quantize(Decimal(1).scaleb(-int(places)), rounding=ROUND_HALF_UP, context=_EXACT)


def _whole(value: Decimal, rounding: str) -> Decimal:
    if value.adjusted() > DIGITS:
        return value
    return value.quantize(Decimal(1), rounding=rounding, context=_EXACT)


def _written(value: Decimal) -> str:
    value = _CONTEXT.plus(value)
    if not value:
        return "0"
    if abs(value.adjusted()) > DIGITS:
        return str(value.normalize(_CONTEXT))
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_OPERATORS: Final[Mapping[type[ast.operator], Callable[[Decimal, Decimal], Decimal]]] = {
    ast.Add: _CONTEXT.add,
    ast.Sub: _CONTEXT.subtract,
    ast.Mult: _CONTEXT.multiply,
    ast.Div: _CONTEXT.divide,
    ast.FloorDiv: lambda left, right: _divided(left, right)[0],
    ast.Mod: lambda left, right: _divided(left, right)[1],
    ast.Pow: _power,
}
_FUNCTIONS: Final[Mapping[str, tuple[int, int, Callable[..., Decimal]]]] = {
    "abs": (1, 1, _CONTEXT.abs),
    "ceil": (1, 1, lambda value: _whole(value, "ROUND_CEILING")),
    "floor": (1, 1, lambda value: _whole(value, "ROUND_FLOOR")),
    "max": (1, MAX_CHARACTERS, max),
    "min": (1, MAX_CHARACTERS, min),
    "round": (1, 2, _rounded),
    "sqrt": (1, 1, _CONTEXT.sqrt),
}
