"""What the demo prints of a batch, a mail and a webhook: lines of text, nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from celery_batches_notify import BatchStatus
from celery_batches_notify.demo.measuring import Sum
from celery_batches_notify.demo.receivers import HOOK_PATH, CaughtHook

MAIL_HEADERS = ("From", "To", "Subject", "Message-ID")
HOOK_HEADERS = (
    "Content-Type",
    "User-Agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
UNREAD_SHOWN = 12
MAIL_LINES = 26
LINE_CHARACTERS = 100
BACKTRACE_CHARACTERS = 40
_RULE = "  │ "


def describe_status(status: BatchStatus, callbacks: str) -> Iterator[str]:
    """Yield a batch's status as a compact table."""
    yield f"  batch      {status.bid}  {status.description}"
    yield f"  state      {status.state}: {_explain_state(status)}"
    yield (
        f"  tasks      {status.total:,} · succeeded {status.succeeded:,} · "
        f"dead {status.dead:,} · pending {status.pending:,}"
    )
    times = [f"created {status.created_at:%H:%M:%S} UTC"]
    for event in ("death", "complete", "finish", "success"):
        at: datetime | None = getattr(status, f"{event}_at")
        if at is not None:
            times.append(f"{event} +{(at - status.created_at).total_seconds():.1f} s")
    yield f"  times      {' · '.join(times)}"
    yield f"  callbacks  {callbacks}"


def describe_unread(unread: Mapping[Path, str], root: Path) -> Iterator[str]:
    """Yield the modules that failed, each with its error."""
    for path in sorted(unread)[:UNREAD_SHOWN]:
        yield _clip(f"  - {_name(path, root)}  {unread[path]}")
    if len(unread) > UNREAD_SHOWN:
        yield f"  - … and {len(unread) - UNREAD_SHOWN} more"


def describe_sum(total: Sum, root: Path) -> Iterator[str]:
    """Yield what the callback task added up."""
    yield (
        f"  {total.modules:,} modules · {total.size_bytes / 1e6:,.1f} MB · {total.lines:,} lines · "
        f"{total.functions:,} functions · {total.classes:,} classes"
    )
    if total.most_branched:
        most = Path(total.most_branched)
        yield f"  most branched: {_name(most, root)}, {total.most_branches:,} branches"


def describe_mail(mail: EmailMessage) -> Iterator[str]:
    """Yield a mail's headers and its plain text, as they arrived; of a long text, the beginning."""
    for name in MAIL_HEADERS:
        yield f"{_RULE}{name}: {mail[name]}"
    yield _RULE.rstrip()
    part = mail.get_body(("plain",))
    lines = str(part.get_content() if part else "").rstrip().splitlines()
    for line in lines[:MAIL_LINES]:
        yield f"{_RULE}{line}".rstrip()
    if len(lines) > MAIL_LINES:
        yield f"{_RULE}… and {len(lines) - MAIL_LINES} more lines"


def describe_hook(hook: CaughtHook) -> Iterator[str]:
    """Yield a webhook's headers and its JSON, of which only the first failure is shown."""
    yield f"{_RULE}POST {HOOK_PATH}"
    for name in HOOK_HEADERS:
        if value := {k.lower(): v for k, v in hook.headers.items()}.get(name.lower()):
            yield f"{_RULE}{name}: {value}"
    yield _RULE.rstrip()
    for line in json.dumps(_shorten(hook.content or {}), indent=2, ensure_ascii=False).splitlines():
        yield f"{_RULE}{line}"


def describe_laps(laps: Mapping[str, float]) -> str:
    """Say where the time went."""
    return "  " + " · ".join(f"{name} {seconds:.1f} s" for name, seconds in laps.items())


def _explain_state(status: BatchStatus) -> str:
    if status.dead:
        tasks = "task has" if status.dead == 1 else "tasks have"
        return f"everything has run, and {status.dead:,} {tasks} failed for good"
    return "everything has run and succeeded"


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path.name)


def _shorten(content: Mapping[str, Any]) -> dict[str, Any]:
    failures: list[Any] = []
    for failure in content.get("failure_info", [])[:1]:
        backtrace = failure.get("backtrace") or ""
        failures.append(
            failure | {"backtrace": backtrace[:BACKTRACE_CHARACTERS] + "…" if backtrace else None}
        )
    if (more := len(content.get("failure_info", [])) - len(failures)) > 0:
        failures.append(f"… and {more} more")
    return {**content, "failure_info": failures}


def _clip(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= LINE_CHARACTERS else line[: LINE_CHARACTERS - 1] + "…"
