"""Write the HTML of a mail: tables and inline styles, as mail clients need them, with every value escaped.

The style sheet adds only dark colours and sizes for phones, which cannot be inline. The HTML loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from string import Template

from celery_batches_notify.bar import count_parts
from celery_batches_notify.headline import Verdict
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.notifiers.email.body import Digest, FailureDigest

_FONT = "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
_WRAP = "word-break:break-word;overflow-wrap:anywhere"
_WAITING = "#e1e5ea"
_VERDICTS = {  # the colours of the word that says how it went
    Verdict.SUCCEEDED: {"ink": "#116329", "ground": "#dff5e5"},
    Verdict.RUNNING: {"ink": "#0a4a9e", "ground": "#ddefff"},
    Verdict.FAILING: {"ink": "#7a5200", "ground": "#fdf0cf"},
    Verdict.DEAD: {"ink": "#a40e26", "ground": "#ffe5e2"},
}
_LOOKS = {
    "page": "margin:0;padding:0;background:#f3f5f7;-webkit-text-size-adjust:100%",
    "preview": "display:none;max-height:0;overflow:hidden",
    "edge": "padding:24px 12px",
    "card": "width:100%;max-width:600px;background:#ffffff;border:1px solid #e1e5ea;border-radius:12px;"
    f"overflow:hidden;font-family:{_FONT};text-align:left",
    "strip": "height:6px;line-height:6px;font-size:0",
    "first": "padding:26px 32px 0",
    "pad": "padding:20px 32px 0",
    "last": "padding:26px 32px 24px",
    "ink": f"color:#17202a;font-family:{_FONT}",
    "faint": f"color:#5b6874;font-family:{_FONT}",
    "rule": "border-top:1px solid #e1e5ea;padding-top:14px",
    "verdict": "display:inline-block;padding:4px 12px;border-radius:99px;font-size:13px;line-height:18px;"
    "font-weight:600",
    "title": f"margin:14px 0 6px;font-size:22px;line-height:28px;font-weight:650;{_WRAP}",
    "name": f"margin:0;font-size:16px;line-height:24px;{_WRAP}",
    "bar": "table-layout:fixed;border-radius:99px;overflow:hidden",
    "part": "height:10px;line-height:10px;font-size:0",
    "counts": "table-layout:fixed",
    "count": "padding-right:8px;vertical-align:top",
    "number": "font-size:24px;line-height:30px;font-weight:650;font-variant-numeric:tabular-nums",
    "unit": "font-size:13px;line-height:18px",
    "fact": "padding:3px 16px 3px 0;width:84px;vertical-align:top;font-size:14px;line-height:20px;"
    "white-space:nowrap",
    "value": f"width:100%;padding:3px 0;font-size:14px;line-height:20px;{_WRAP}",
    "open": "display:inline-block;padding:12px 24px;border-radius:8px;background:#17202a;color:#ffffff;"
    "font-size:15px;line-height:20px;font-weight:600;text-align:center;text-decoration:none",
    "command": f"margin:4px 0 0;border-left-color:#8b97a3;font-family:{_MONO};font-size:13px;"
    f"line-height:19px;{_WRAP}",
    "heading": "margin:8px 0 10px;font-size:16px;line-height:22px;font-weight:650",
    "gap": "margin-bottom:10px",
    "box": "padding:12px 14px;border-left:3px solid #cf222e;border-radius:6px;background:#f6f7f9",
    "task": f"font-size:14px;line-height:20px;font-weight:600;{_WRAP}",
    "error": f"margin:4px 0;font-family:{_MONO};font-size:13px;line-height:19px;white-space:pre-wrap;{_WRAP}",
    "details": f"font-size:12px;line-height:18px;{_WRAP}",
    "more": "margin:0;font-size:14px;line-height:20px",
    "small": f"margin:0;font-size:12px;line-height:18px;{_WRAP}",
}
_SHEET = """\
:root { color-scheme: light dark; supported-color-schemes: light dark; }
@media (max-width: 480px) {
  .edge { padding: 0 !important; }
  .card { border-radius: 0 !important; border-left: 0 !important; border-right: 0 !important; }
  .first, .pad, .last { padding-left: 20px !important; padding-right: 20px !important; }
  .count { display: inline-block !important; width: 46% !important; padding-bottom: 10px !important; }
  .open { display: block !important; }
}
@media (prefers-color-scheme: dark) {
  .page { background: #101418 !important; }
  .card { background: #1a2027 !important; border-color: #2c343d !important; }
  .ink { color: #e8ecf1 !important; }
  .faint { color: #9aa7b5 !important; }
  .rule { border-color: #2c343d !important; }
  .box { background: #232b34 !important; }
  .waiting { background: #39434e !important; }
  .succeeded { color: #7fdcaa !important; background: #14341f !important; }
  .running { color: #9ac7ff !important; background: #12304f !important; }
  .failing { color: #f2c879 !important; background: #3b2c0c !important; }
  .dead { color: #ffb0a8 !important; background: #451c18 !important; }
  .open { background: #e8ecf1 !important; color: #101418 !important; }
}"""


class Html(str):
    """Text that is HTML already. Everything else is escaped by `fill`."""

    __slots__ = ()


def fill(template: str, **values: object) -> Html:
    """Put values into a template's `$names`; those that are not `Html` are escaped."""
    return Html(
        Template(template).substitute(
            {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
        )
    )


def write_html(digest: Digest) -> Html:
    """Return the HTML of the mail: a whole document."""
    return fill(
        _PAGE,
        **_VERDICTS[digest.verdict],
        sign=digest.verdict.sign,
        preview=" · ".join(f"{name}: {value}" for name, value in (*digest.counts[1:], *digest.facts[1:3])),
        sheet=Html(_SHEET),
        headline=digest.headline,
        title=digest.title,
        label=digest.label,
        outcome=digest.outcome,
        verdict=digest.verdict.value,
        colour=digest.verdict.colour,
        bar=_bar(digest.status),
        counts=_join(fill(_COUNT, name=name, value=value) for name, value in digest.counts),
        facts=_join(fill(_FACT, name=name, value=value) for name, value in digest.facts),
        button=fill(_BUTTON, url=digest.link) if digest.link else _command(digest.next_step),
        failures=_failures(digest) if digest.failures else Html(),
        small_print=digest.small_print,
    )


def _bar(status: BatchStatus) -> Html:
    counts = {
        ("ended", Verdict.SUCCEEDED.colour): status.succeeded,
        ("ended", Verdict.FAILING.colour): status.failing,
        ("ended", Verdict.DEAD.colour): status.dead,
        ("waiting", _WAITING): count_parts(status)["waiting"],
    }
    # widen a share that is too small to see, at the cost of the largest
    shares = {part: max(100 * count // status.total, 1) for part, count in counts.items() if count > 0}
    shares = shares or {("ended", Verdict.SUCCEEDED.colour): 100}
    shares[max(shares, key=lambda part: shares[part])] += 100 - sum(shares.values())
    return _join(
        fill(_PART, kind=kind, colour=colour, share=share) for (kind, colour), share in shares.items()
    )


def _failures(digest: Digest) -> Html:
    return fill(
        _FAILURES,
        rows=_join(map(_failure, digest.failures)),
        more=fill(_MORE, more=digest.more) if digest.more else Html(),
    )


def _failure(failure: FailureDigest) -> Html:
    said = fill(_ERROR, said=failure.message) if failure.message else Html()
    return fill(_FAILURE, title=failure.title, said=said, details=failure.details)


def _command(next_step: str) -> Html:
    return fill(_COMMAND, command=next_step) if next_step else Html()


def _join(pieces: Iterable[Html]) -> Html:
    return Html("".join(pieces))


def _dressed(template: str) -> str:
    """Add a `style` to each `class`, because some mail clients drop style sheets."""

    def style(match: re.Match[str]) -> str:
        looks = [_LOOKS[name] for name in match[1].split() if name in _LOOKS]
        return f'class="{match[1]}" style="{";".join(filter(None, [*looks, match[2]]))}"'

    return re.sub(r'class="([^"]*)"(?: style="([^"]*)")?', style, template)


_TABLE = 'width="100%" cellpadding="0" cellspacing="0" border="0"'
_PAGE = _dressed(f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>$headline</title>
<style>
$sheet
</style>
</head>
<body class="page">
<div class="preview">$preview</div>
<table role="presentation" class="page" {_TABLE}><tr><td class="edge" align="center">
<table role="presentation" class="card" width="600" cellpadding="0" cellspacing="0" border="0">
<tr><td class="strip" style="background:$colour">&nbsp;</td></tr>
<tr><td class="first">
<span class="verdict $verdict" style="color:$ink;background:$ground">$sign&nbsp; $label</span>
<h1 class="ink title">$outcome</h1>
<p class="ink name" dir="auto">$title</p>
</td></tr>
<tr><td class="pad"><table role="presentation" class="bar" {_TABLE}><tr>$bar</tr></table></td></tr>
<tr><td class="pad"><table role="presentation" class="counts" {_TABLE}><tr>$counts</tr></table></td></tr>
<tr><td class="pad"><table role="presentation" class="rule" {_TABLE}>$facts</table></td></tr>
$button$failures
<tr><td class="last"><p class="faint rule small">$small_print</p></td></tr>
</table>
</td></tr></table>
</body>
</html>
""")
_PART = _dressed(
    '<td class="part $kind" style="width:$share%;background:$colour" width="$share%">&nbsp;</td>'
)
_COUNT = _dressed(
    '<td class="count"><div class="ink number">$value</div><div class="faint unit">$name</div></td>'
)
_FACT = _dressed(
    '<tr><td class="faint fact">$name</td><td class="ink value" dir="auto" align="left">$value</td></tr>\n'
)
_BUTTON = _dressed('<tr><td class="pad"><a class="open" href="$url">Open the batch</a></td></tr>\n')
_FAILURES = _dressed('<tr><td class="pad">\n<h2 class="ink heading">Failures</h2>\n$rows$more</td></tr>')
_FAILURE = _dressed(f"""\
<table role="presentation" class="gap" {_TABLE}><tr><td class="box">
<div class="ink task">$title</div>
$said<div class="faint details">$details</div>
</td></tr></table>
""")
_ERROR = _dressed('<div class="ink error" dir="auto">$said</div>\n')
_COMMAND = _dressed(
    '<tr><td class="pad"><p class="faint small">See more:</p>'
    '<p class="ink box command">$command</p></td></tr>\n'
)
_MORE = _dressed('<p class="faint more">$more</p>\n')
