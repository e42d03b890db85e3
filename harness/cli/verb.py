"""What every verb shares: plain help in groups, and options that hold one value are given once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer
import typer.core

from harness.errors import UsageError

if TYPE_CHECKING:
    from typer import _click as click  # typer brings its own copy

Function = TypeVar("Function", bound=Callable[..., object])

_GROUPS = {
    "What": "model recipe data max_drop delegate threads require_full_delegation broken_gpu allow_code",
    "Where": "device host lab per prepare may_reboot",
    "How exactly": "preset invocations runs accuracy_samples timeout_s sustained seed",
    "What to ship": "max_latency max_size max_memory",
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names.split()}
_MOST_UNGROUPED = 14
"""Options that can still be read as one list."""
_METAVARS = {"int": "N", "float": "NUMBER", "path": "PATH"}
_TYPE = re.compile(r"<(?:list\[)?(\w+)[^>]*>$")
"""A Python type, which typer puts in place of a value."""
_OLD_NAMES = re.compile(r", --(most|least-free-gb)")
"""Earlier spellings, which still work."""
_DEFAULT = re.compile(r"default: \((.*?)\)(?=[;\]])")
"""A default in words, which typer puts into brackets."""
_AT_LEAST = re.compile(r"x>=(?=[\d.]+[;\]])")


def _value(python_type: re.Match[str]) -> str:
    return _METAVARS.get(python_type[1], "TEXT")


def _in_words(text: str) -> str:
    return _AT_LEAST.sub("at least ", _DEFAULT.sub(r"default: \1", text))


class VerbCommand(typer.core.TyperCommand):
    """A command of the program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option that is given twice but holds one value: the first would be lost without a word."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for one, count in Counter(given).items():
            if count > 1 and isinstance(one, typer.core.TyperOption) and not (one.multiple or one.is_flag or one.count):
                raise UsageError(f"{one.opts[0]} is given {count} times.", "Give it once.")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show what is required without braces, and what is not in one pair of brackets."""
        return [re.sub(r"[{}]|\[(?=\[)|(?<=\])\]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments, then options by group."""
        found = [(one, record) for one in self.get_params(ctx) if (record := one.get_help_record(ctx))]
        is_long = len(found) > _MOST_UNGROUPED
        rest = "Results and output" if is_long else "Options"
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in ("Arguments", *_GROUPS, rest)}
        for one, (name, text) in found:
            if one.param_type_name == "argument":
                groups["Arguments"].append((_TYPE.sub("", name).rstrip(), _in_words(text)))
            else:
                group = _GROUP_OF.get(one.name or "", rest) if is_long else rest
                groups[group].append((_TYPE.sub(_value, _OLD_NAMES.sub("", name)), _in_words(text)))
        for group, records in groups.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


class Verb(typer.Typer):
    """A verb, or a group of them; its commands are `VerbCommand`s."""

    def __init__(self, *, help: str, epilog: str | None = None, no_args_is_help: bool = False) -> None:  # noqa: A002
        """Take those of typer's settings that verbs use."""
        super().__init__(
            add_completion=False, rich_markup_mode=None, help=help, epilog=epilog, no_args_is_help=no_args_is_help
        )

    def command(  # type: ignore[override]
        self, name: str | None = None, *, epilog: str | None = None
    ) -> Callable[[Function], Function]:
        """Register a function as a command."""
        return super().command(name, cls=VerbCommand, epilog=epilog)
