"""`clarice report`: makes the page of a run anew."""

from __future__ import annotations

from pathlib import Path

import typer

from clarice.cli.console import told
from clarice.report.page import write_report


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("report")(report)


def report(
    run: Path = typer.Argument(help="Run folder, finished or not, as written by `clarice run -o`."),
) -> None:
    """Writes RUN/report.html: one page with everything the run found, from the run folder alone."""
    told(str(write_report(run)))
