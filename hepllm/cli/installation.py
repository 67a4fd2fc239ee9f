"""The command that checks the installation."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict

import click

from hepllm.cli.options import Settings, common


@click.command()
@click.option("--dry-run/--no-dry-run", default=True, help="Train one step on made-up events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
@common
def doctor(settings: Settings, dry_run: bool, as_json: bool) -> None:
    """Check that the installation fits the configuration, and say how to mend problems.

    Each check is ok, a warning or a problem; with a problem the exit code is 1.
    """
    config = settings.load()
    from hepllm.stages.doctor import examine

    counts: Counter[str] = Counter()
    findings = []
    for finding in examine(config, dry_run=dry_run):
        counts[finding.level] += 1
        findings.append(asdict(finding))
        if as_json:
            continue
        click.echo(f"{finding.level:<8} {finding.name:<18} {finding.found}")
        if finding.remedy:
            click.echo(f"{'':<8} {'':<18} -> {finding.remedy}")
    if as_json:
        totals = {"problems": counts["problem"], "warnings": counts["warning"]}
        click.echo(json.dumps({"findings": findings, **totals}, indent=1))
    else:
        click.echo(f"problems: {counts['problem']}, warnings: {counts['warning']}")
    if counts["problem"]:
        sys.exit(1)
