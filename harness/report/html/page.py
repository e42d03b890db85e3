"""Sweeps as one self-contained HTML file. Nothing from outside reaches it unescaped, and nothing leaves it."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.analysis.decision import Decision, decide
from harness.analysis.shipping.choice import ShipLimits
from harness.analysis.sweep_data import SweepData
from harness.paths import cache_folder
from harness.report.html.figure import Chart
from harness.report.html.heat import heat_figure
from harness.report.html.history_figure import ChangePoint, history_figure
from harness.report.html.latencies import delegate_figure, invocation_figure, sustained_figure
from harness.report.html.operators import operator_figure
from harness.report.html.provenance import Provenance, provenance
from harness.report.html.tables import (
    DelegateFinding,
    FailureGroup,
    KeptPromise,
    delegate_findings,
    failure_groups,
    kept_promises,
    row_table,
)
from harness.report.html.trade_offs import trade_off_figure
from harness.text import printable, to_json, words
from harness.version import __version__

_PACKAGE = "harness.report.html"


@dataclass(frozen=True)
class SweepSections:
    """What the page says of one sweep."""

    data: SweepData
    decisions: Sequence[Decision]
    trade_offs: Chart
    figures: Sequence[Chart]
    findings: Sequence[DelegateFinding]
    more_findings: int
    failures: Sequence[FailureGroup]
    more_failures: int
    promises: Sequence[KeptPromise]
    provenance: Provenance


@dataclass(frozen=True)
class ReportOptions:
    """What a report is made of next to the sweeps themselves."""

    limits: ShipLimits = field(default_factory=ShipLimits)
    changes: Sequence[ChangePoint] = ()
    """Change points of cells over the sweeps."""


def render_report(sweeps: Sequence[SweepData], options: ReportOptions | None = None) -> str:
    """Return the page; the sweep that comes first is the one that its decision is about."""
    options = options or ReportOptions()
    sections = [_sections(data, index, options) for index, data in enumerate(sweeps)]
    history = history_figure(sweeps, options.changes, "history") if len(sweeps) > 1 else None
    figures = [figure for part in sections for figure in (part.trade_offs, *part.figures)]
    figures += [history] if history else []
    document = {
        "figures": {figure.identity: figure.document() for figure in figures if not figure.is_empty},
        "table": row_table(sweeps),
    }
    return render_template(
        "report.html",
        [asset("theme.js"), chart_script(), asset("page.js")],
        newest=sections[0],
        sections=sections,
        history=history,
        limits=options.limits,
        document=json_for_script(document),
        row_count=sum(len(data.rows) for data in sweeps),
        tools=" and ".join(dict.fromkeys(printable(tool.name) for data in sweeps for tool in data.tools)) or "the tool",
    )


def render_index(entries: Sequence[Mapping[str, object]]) -> str:
    """Return the first page of a site: one line per sweep, each with a link to its report."""
    return render_template("index.html", [asset("theme.js")], entries=entries)


def _sections(data: SweepData, index: int, options: ReportOptions) -> SweepSections:
    findings, more_findings = delegate_findings(data)
    failures, more_failures = failure_groups(data)
    decisions = decide(data, options.limits)
    return SweepSections(
        data,
        decisions,
        trade_off_figure(data, f"trade-offs-{index}", decisions),
        [
            invocation_figure(data, f"latency-{index}"),
            delegate_figure(data, f"delegates-{index}"),
            operator_figure(data, f"operators-{index}"),
            heat_figure(data, f"heat-{index}"),
            sustained_figure(data, f"sustained-{index}"),
        ],
        findings,
        more_findings,
        failures,
        more_failures,
        kept_promises(data),
        provenance(data),
    )


def json_for_script(value: object) -> Markup:
    """Return JSON that cannot end the `script` element around it, whatever text it holds."""
    text = to_json(value)
    for sign in "<>&\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - no sign that HTML knows is left


def render_template(template: str, scripts: Sequence[str], **values: object) -> str:
    """Return a page of `templates/` that holds style and scripts itself; all values are escaped."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"marked": _marked, "words": words}
    style = asset("style.css")
    return environment.get_template(template).render(
        style=Markup(style),  # noqa: S704 - shipped with harness
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - shipped with harness and vl-convert
        policy=_policy(style, scripts),
        harness_version=__version__,
        **values,
    )


def _marked(text: str) -> Markup:
    """Escape a sentence and set the words between its backticks as code."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # a lone backtick is no mark
        return escape(text)
    shown = [f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)]
    return Markup("".join(shown))  # noqa: S704 - escaped above


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy that lets run what the page was made with, and lets nothing be loaded.

    https://www.w3.org/TR/CSP3/#framework-directive-source-list
    """
    hashes = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(name: str) -> str:
    """Return a file of `templates/`."""
    return (resources.files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def chart_script(cache: Path | None = None) -> str:
    """Return the script; it defines `vegaEmbed`."""
    from importlib.metadata import version

    file = (cache or cache_folder()) / "charts" / f"vl-convert-{version('vl-convert-python')}.js"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    import vl_convert

    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg] # the stub lacks the default
    _keep(file, script)
    return script


def _keep(file: Path, script: str) -> None:
    """Write whole or not at all: two reports may be made at once. A cache that cannot be written only costs time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False) as half:
            half.write(script)
        os.replace(half.name, file)  # noqa: PTH105 - a name, not a path
    except OSError:
        return
