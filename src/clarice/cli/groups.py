"""Commands that consist of further ones."""

from __future__ import annotations

import typer

from clarice.core.errors import UsageError


def command_group(summary: str) -> typer.Typer:
    """A group of commands with one line about it; called alone it prints its help and says what is missing."""
    made = typer.Typer(help=summary, invoke_without_command=True)
    made.callback()(insist_on_command)
    return made


def insist_on_command(context: typer.Context) -> None:
    """Raises UsageError, after the help, when none of the group's commands was named."""
    if context.invoked_subcommand is not None:
        return
    if printable := context.get_help():  # empty where the help was printed with its colours
        typer.echo(printable)
    commands = getattr(context.command, "commands", {})
    raise UsageError(f"`{context.command_path}` needs one of its commands: {', '.join(commands)}")
