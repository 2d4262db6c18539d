"""How the results of a protocol are told on paper: the table, its notes, the summary and where they lie."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clarice.benchmark.records import Results
from clarice.cli.console import console


def tell(results: Results, out: Path) -> None:
    """Prints the table, the rows' notes and the summary, and where they lie."""
    shown = [
        column
        for column in results.table_columns
        if column.key != "note" and any(row.get(column.key) is not None for row in results.rows)
    ]
    table = Table(box=None, pad_edge=False)
    for column in shown:
        table.add_column(column.heading, justify="left" if column.form == "{}" else "right", overflow="fold")
    for row in results.rows:
        table.add_row(*(escape(column.cell(row)) for column in shown))
    if console.is_terminal:
        console.print(table)
    else:
        Console(file=console.file, width=1000, highlight=False).print(table)
    for row in results.rows:
        if row.get("note"):
            named = ", ".join(str(row[key]) for key in results.keys)
            console.print(f"{named}: {row['note']}", markup=False)
    for name, value in results.summary.items():
        console.print(f"{name}: {value}", markup=False)
    for note in results.remarks:
        console.print(f"note: {note}", markup=False)
    console.print(f"results: {out / results.protocol}.json and .md", markup=False)
