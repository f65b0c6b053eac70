"""From what each cell saw in each round to medians, ratios and a table. Nothing is measured here.

A ratio is taken within a round, where both proxies ran one after the other, and the median of the
rounds' ratios is what is printed: the machine's noise is then in both and mostly falls out.
"""
import statistics

SIDES = ("c", "s")
ORDER = ("weft", "base", "floor", "haproxy", "envoy", "direct")
METRICS = ("cpu_us", "core", "rss_kb", "cpu_s_per_gb", "ready_ms", "switches")
PLAIN = ("rps", "p50", "p99", "mbps", "added_p99", "added_p50")


def add_latency(rows):
    """What a meshed pair adds to the latency of the same round without proxies."""
    direct = {(row["cell"], row["round"]): row for row in rows if row["proxy"] == "direct"}
    for row in rows:
        base = direct.get((row["cell"], row["round"]))
        if base and row["proxy"] != "direct" and "p99" in row:
            row["added_p50"] = row["p50"] - base["p50"]
            row["added_p99"] = row["p99"] - base["p99"]


def summary(rows):
    """By cell and proxy: medians over rounds, and ratios to the floor and to Envoy."""
    add_latency(rows)
    found = {}
    for cell in dict.fromkeys(row["cell"] for row in rows):
        of_cell = [row for row in rows if row["cell"] == cell]
        found[cell] = {proxy: medians([row for row in of_cell if row["proxy"] == proxy])
                       for proxy in ORDER if any(row["proxy"] == proxy for row in of_cell)}
        for proxy, figures in found[cell].items():
            for base in ("floor", "envoy"):
                if base in found[cell] and proxy not in (base, "direct"):
                    figures[f"to_{base}"] = ratios(of_cell, proxy, base)
    return found


def medians(rows):
    figures = {"rounds": len(rows), "failed": sum(row.get("failed", 0) for row in rows)}
    for metric in METRICS:
        have = [row[metric] for row in rows if row.get(metric)]
        if have:
            figures[metric] = {side: statistics.median(each[side] for each in have) for side in SIDES}
    for metric in PLAIN:
        have = [row[metric] for row in rows if metric in row]
        if have:
            figures[metric] = statistics.median(have)
    return figures


def ratios(rows, proxy, base):
    by_round = {}
    for row in rows:
        if row["proxy"] in (proxy, base):
            by_round.setdefault(row["round"], {})[row["proxy"]] = row
    pairs = [pair for pair in by_round.values() if len(pair) == 2]
    figures = {}
    for metric in METRICS:
        have = [pair for pair in pairs if pair[proxy].get(metric) and pair[base].get(metric)]
        if have:
            figures[metric] = {side: statistics.median(
                pair[proxy][metric][side] / max(1e-9, pair[base][metric][side]) for pair in have) for side in SIDES}
    for metric in PLAIN:
        have = [pair for pair in pairs if pair[proxy].get(metric) and pair[base].get(metric)]
        if have:
            figures[metric] = statistics.median(pair[proxy][metric] / pair[base][metric] for pair in have)
    return figures


def table(found):
    lines = []
    for cell, proxies in found.items():
        lines.append(f"\n{cell}")
        heads, body = columns(proxies)
        widths = [max(len(row[at]) for row in [heads, *body]) for at in range(len(heads))]
        for row in [heads, *body]:
            lines.append("  " + "  ".join(text.rjust(width) if at else text.ljust(width)
                                          for at, (text, width) in enumerate(zip(row, widths))))
    return "\n".join(lines)


def both(figures, metric, form, scale=1):
    pair = figures.get(metric)
    return " / ".join(form.format(pair[side] * scale) for side in SIDES) if pair else ""


def columns(proxies):
    """The columns that any of the proxies has a figure for."""
    one = lambda metric, form: lambda figures: form.format(figures[metric]) if metric in figures else ""
    ratio = lambda base, metric: lambda figures: both(figures.get(f"to_{base}", {}), metric, "{:.2f}")
    single = lambda base, metric: lambda figures: (
        f"{figures[f'to_{base}'][metric]:.2f}" if metric in figures.get(f"to_{base}", {}) else "")
    wanted = [
        ("CPU us/request", lambda figures: both(figures, "cpu_us", "{:.1f}")),
        ("x floor", ratio("floor", "cpu_us")), ("x envoy", ratio("envoy", "cpu_us")),
        ("% of a core", lambda figures: both(figures, "core", "{:.1f}")),
        ("CPU s/GB", lambda figures: both(figures, "cpu_s_per_gb", "{:.2f}")),
        ("x floor", ratio("floor", "cpu_s_per_gb")), ("x envoy", ratio("envoy", "cpu_s_per_gb")),
        ("MB/s", one("mbps", "{:.0f}")),
        ("rps", one("rps", "{:.0f}")), ("x floor", single("floor", "rps")), ("x envoy", single("envoy", "rps")),
        ("p50 us", one("p50", "{:.0f}")), ("p99 us", one("p99", "{:.0f}")),
        ("added p99", one("added_p99", "{:.0f}")), ("x floor", single("floor", "added_p99")),
        ("x envoy", single("envoy", "added_p99")),
        ("ready ms", lambda figures: both(figures, "ready_ms", "{:.1f}")),
        ("RSS MB", lambda figures: both(figures, "rss_kb", "{:.1f}", 1 / 1024)),
        ("failed", lambda figures: str(figures["failed"]) if figures.get("failed") else ""),
    ]
    heads, cells = [""], [[name] for name in proxies]
    for head, cell in wanted:
        texts = [cell(figures) for figures in proxies.values()]
        if any(texts):
            heads.append(head)
            for row, text in zip(cells, texts):
                row.append(text)
    return heads, cells
