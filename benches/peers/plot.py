"""A report's figures as one SVG: a panel for each figure, a bar for each proxy, shorter is better (but for
throughput, which says so). Legible on light and on dark ground."""
from html import escape
from report import ORDER

WIDTH, PANEL, LABEL, BAR, GAP = 940, 300, 58, 15, 5

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-weight: 600; font-size: 13px }
  .note { fill: #777 } .bar { fill: #9aa5b1 } .weft { fill: #2f7fd6 } .floor { fill: #6b9e78 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .note { fill: #999 } .bar { fill: #6d7884 } }
"""

# Panel's title, cell, metric, scale, unit.
PANELS = (
    ("CPU at 2000 rps", "HTTP/1, 2000 rps x 32", "cpu_us", 1, "us/request"),
    ("CPU at 4000 rps", "HTTP/1, 4000 rps x 100", "cpu_us", 1, "us/request"),
    ("CPU, saturated", "HTTP/1, saturated x 100", "cpu_us", 1, "us/request"),
    ("Throughput (longer is better)", "HTTP/1, saturated x 100", "rps", 1e-3, "thousand rps"),
    ("Latency p99 at 4000 rps", "HTTP/1, 4000 rps x 100", "p99", 1e-3, "ms"),
    ("CPU of gRPC, saturated", "gRPC unary, saturated 10 x 10", "cpu_us", 1, "us/request"),
    ("CPU of 1 MB bodies", "1 MB bodies, 50 rps x 8", "cpu_us", 1e-3, "ms/request"),
    ("CPU of opaque TCP, down", "opaque TCP, download", "cpu_s_per_gb", 1, "s/GB"),
    ("CPU of opaque TCP, up", "opaque TCP, upload", "cpu_s_per_gb", 1, "s/GB"),
    ("Memory, idle", "idle", "rss_kb", 1 / 1024, "MB"),
    ("Memory at 4000 rps", "HTTP/1, 4000 rps x 100", "rss_kb", 1 / 1024, "MB"),
    ("Memory with 1000 idle connections", "1000 idle connections", "rss_kb", 1 / 1024, "MB"),
    ("Start to ready", "start to ready", "ready_ms", 1, "ms"),
)


def svg(found, caption):
    panels = [panel for panel in PANELS if panel[1] in found]
    names = [name for name in ORDER if any(name in found[cell] for _, cell, *_ in panels)]
    per_row = WIDTH // (PANEL + 10)
    height = 34 + len(names) * (BAR + GAP)
    rows = -(-len(panels) // per_row)
    total = rows * (height + 12) + 50
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
             f'role="img" aria-label="Costs of proxies side by side"><style>{STYLE}</style>',
             f'<text class="note" x="6" y="16">{escape(caption)}</text>',
             '<text class="note" x="6" y="32">The worse of the outbound and the inbound proxy; medians over rounds. '
             'Shorter is better.</text>']
    for at, panel in enumerate(panels):
        x, y = at % per_row * (PANEL + 14) + 6, at // per_row * (height + 12) + 46
        parts.append(bars(panel, found, names, x, y))
    return "\n".join([*parts, "</svg>\n"])


def bars(panel, found, names, x, y):
    title, cell, metric, scale, unit = panel
    values = {}
    for name in names:
        value = found[cell].get(name, {}).get(metric)
        if value:
            values[name] = (max(value.values()) if isinstance(value, dict) else value) * scale
    largest = max(values.values(), default=1) or 1
    parts = [f'<g transform="translate({x},{y})"><text class="title" y="13">{escape(title)} '
             f'<tspan class="note" font-weight="400">{escape(unit)}</tspan></text>']
    for row, (name, value) in enumerate(values.items()):
        top = 22 + row * (BAR + GAP)
        length = max(1, value / largest * (PANEL - LABEL - 52))
        parts.append(f'<text x="0" y="{top + 12}">{name}</text>'
                     f'<rect class="bar {name}" x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
                     f'<text x="{LABEL + length + 5:.1f}" y="{top + 12}">{number(value)}</text>')
    return "".join(parts) + "</g>"


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
