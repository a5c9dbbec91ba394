"""Finding faults and their fixes: in the surroundings, in all live batches, or in one batch."""

from __future__ import annotations

from celery import Celery

from celery_batches_notify.checks import check_bid
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.doctor.broker_checks import check_broker
from celery_batches_notify.doctor.diagnosis import find_complaints
from celery_batches_notify.doctor.examination import examine_batch, say_complaint
from celery_batches_notify.doctor.spool_check import check_spool
from celery_batches_notify.store.server_checks import check_store


def examine(app: Celery, out: Output, *, bid: str | None, limit: int) -> int:
    """Examine one batch, or the surroundings and all live batches; return 1 if hands are needed, else 0.

    Raises:
        BatchesError: The batch does not exist, the store is away, or a setting is wrong.
    """
    engine = engine_of(app)
    if bid is not None:
        found = examine_batch(engine, check_bid(bid), limit)
        for line in found.lines:
            out.say(line.text, **line.fields)
        return int(found.needs_hands)
    findings = [*check_store(engine.store), *check_broker(app), *check_spool(engine.settings)]
    for finding in findings:
        fields = {name: getattr(finding, name) for name in ("severity", "subject", "words")}
        out.say(f"{finding.severity}: {finding.subject}: {finding.words}", **fields)
    complaints = 0
    for complaint in find_complaints(engine):
        complaints += bool(complaint.fix)
        line = say_complaint(complaint)
        out.say(line.text, **line.fields)
    if not complaints:
        out.say("all live batches move" if not findings else "all live batches move; see the findings above")
    return 1 if complaints or any(finding.severity == "error" for finding in findings) else 0
