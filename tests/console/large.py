"""Facts of the console, on a mesh of 1,000 workloads."""

import time
import urllib.parse

from facts import expect

# Bytes of a page, whatever there is in the mesh: rows are cut into pages by the server.
PAGE_BYTES_MAX = 200_000
NODES_MAX = 120


def pages_of_a_thousand_workloads_are_small(console):
    host = urllib.parse.urlsplit(console.url).netloc
    told = []
    for path in ("/", "/workloads", "/workloads?kind=pod", "/namespaces/team-3", "/edges", "/topology",
                 "/topology?namespace=team-3", "/routes", "/authorities", "/policy", "/certificates",
                 "/workloads/team-3/deployment/service-07"):
        began = time.monotonic()
        status, _, text = console.ask(path, {"Host": host})
        millis = (time.monotonic() - began) * 1000
        expect(status == 200, f"{path}: {status}")
        expect(len(text) <= PAGE_BYTES_MAX, f"{path}: {len(text)} bytes")
        rows = text.count("<tr data-key=")
        told.append(f"{path} {len(text) // 1000} kB {rows} rows {millis:.0f} ms")
    return "\n        " + "\n        ".join(told)


def a_browser_shows_them_soon(console):
    page = console.open("workloads")
    millis = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    elements = page.evaluate("document.querySelectorAll('*').length")
    expect(elements < 3000, f"{elements} elements")
    expect(page.locator("#workload-table tbody tr").count() == 50, "it is not cut into pages")
    page.get_by_role("link", name="Next").click()
    page.wait_for_function("() => document.querySelector('.pages').textContent.includes('51')")
    expect("page=2" in page.url, page.url)
    page.get_by_label("Name", exact=True).fill("service-42")
    page.wait_for_function("() => document.querySelectorAll('#workload-table tbody tr').length === 10")
    page.context.close()
    return f"{elements} elements, {millis:.0f} ms"


def the_worst_of_a_thousand_are_at_the_top(console):
    page = console.open("")
    page.wait_for_selector("#worst-table tbody tr")
    rows = page.locator("#worst-table tbody tr").all_inner_texts()
    expect(len(rows) == 8 and all("\u00d7" in row for row in rows), f"{rows}")
    page.context.close()


def a_topology_of_a_thousand_draws_the_busiest(console):
    page = console.open("topology")
    drawn = page.locator(".graph .node").count()
    expect(0 < drawn <= NODES_MAX, f"{drawn} nodes")
    expect("busiest are drawn" in page.locator("#graph").inner_text(), "nothing says what is left out")
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    expect(over <= 0, f"{over} pixels too wide")
    if console.shots:
        page.screenshot(path=console.shots / "topology-1000.png", full_page=True)
    page.context.close()


FACTS = [
    pages_of_a_thousand_workloads_are_small,
    a_browser_shows_them_soon,
    the_worst_of_a_thousand_are_at_the_top,
    a_topology_of_a_thousand_draws_the_busiest,
]
