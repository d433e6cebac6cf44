"""`srv6dmm doctor`: what this host can do, and what to do about what it cannot."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("doctor")(_doctor)


def _doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    bcc: Annotated[bool, typer.Option(help="Also compile and load the fast path.")] = True,
) -> None:
    """Try everything srv6dmm needs of this host and read it back.

    Exit code 1 when something that nothing works without is missing.
    """
    import platform

    from srv6dmm.cli.output import ERROR, console, print_json
    from srv6dmm.dataplane.probe import DONE, probe

    findings = probe(compile_bpf=bcc)
    missing = [finding for finding in findings if finding.status == "missing"]
    if json:
        print_json(
            {
                "kernel": platform.release(),
                "usable": not missing,
                "findings": [
                    {"name": f.name, "status": f.status, "detail": f.detail, "remedy": f.remedy}
                    for f in findings
                ],
            }
        )
    else:
        colours = {"ok": "green", "limited": "yellow", "missing": "red"}
        console.print(f"kernel {platform.release()}")
        for finding in findings:
            colour = colours[finding.status]
            shown = "" if finding.status != "ok" or finding.detail == DONE else finding.detail
            console.print(
                f"[{colour}]{finding.status:8}[/] {finding.name}{f': {shown}' if shown else ''}",
                highlight=False,
            )
            if finding.status != "ok":
                console.print(f"         {finding.detail}", markup=False)
                console.print(f"         -> {finding.remedy}", markup=False)
    if missing:
        raise typer.Exit(ERROR)
