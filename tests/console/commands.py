"""Facts of the commands that pages say: each runs as it stands, and says what its page says."""

import json
import shlex
import subprocess
import time

from facts import PAGES, expect

# Answers lack nothing once the controller has watched for a minute, and what stops does so soon.
AGREE_SECONDS = 100

# Of which table on a page a command says the rows.
TABLES = {
    "stat": "#workload-table, #namespace-table, #authority-table",
    "stat-inbound": "#inbound-routes",
    "stat-outbound": "#outbound-routes",
    "edges": "#edge-table",
}


def of_port(named):
    name = "[default]" if named["kind"] == "default" else named["name"]
    return name if named["port"] is None else f"{name}:{named['port']}"


def of_policy(named):
    return f"[{named['name']}]" if named["kind"] == "default" else named["name"] or "-"


def of_resource(row):
    return f"{row['namespace']}/{row['kind']}/{row['name']}"


def keys(verb, rows):
    """What the rows of an answer are told by on a page."""
    found = []
    for row in rows:
        if verb == "edges":
            if row["src"]["name"] or row["client_id"]:
                found.append(f"{of_resource(row['src'])} {of_resource(row['dst'])}")
        elif verb == "stat":
            special = {"namespace": row["name"], "authority": f"{row['namespace']} {row['name']}"}
            found.append(special.get(row["kind"], of_resource(row)))
        else:
            port = of_port(row["server" if verb == "stat-inbound" else "service"])
            route = f"{of_resource(row)} {port} {of_policy(row['route'])}"
            found.append(route)
            found += [f"{route} {of_port(one['backend'])}" for one in row.get("backends", [])]
    return sorted(found)


def as_json(words):
    """The same command, for programs."""
    if "-o" in words:
        at = words.index("-o")
        words = words[:at] + words[at + 2 :]
    return words + ["-o", "json"]


def run(console, words, seconds=30):
    command = [console.programs / words[0], *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


def rows_agree(console, page, verb, words):
    """What keeps the rows of a page and of its command from being the same; nothing where they are."""
    done = run(console, as_json(words))
    if done.returncode != 0:
        return f"exit code {done.returncode}: {done.stderr}"
    said = keys(verb, json.loads(done.stdout))
    tables = TABLES[verb]
    if verb == "stat" and "/namespaces/" in page.url:
        tables = "#tables table"
    rows = page.locator(tables).locator("tbody tr")
    shown = sorted(rows.evaluate_all("rows => rows.map(row => row.dataset.key)"))
    if verb == "stat" and "/workloads/" in page.url:
        # The page of one workload is named in its address.
        namespace, kind, name = page.url.split("?")[0].split("/")[-3:]
        shown = [f"{namespace}/{kind}/{name}"]
    return None if said == shown else f"it says {said}, the page {shown}"


def tap_agrees(console, page, words):
    with subprocess.Popen([console.programs / "weft", *words[1:]], stdout=subprocess.PIPE, text=True) as tap:
        lines = [tap.stdout.readline() for _ in range(3)]
        tap.terminate()
    return None if all(line.startswith(("req ", "rsp ", "end ")) for line in lines) else f"{lines}"


def text_agrees(console, page, verb, words):
    """The same of commands that print other things than rows with figures."""
    done = run(console, words)
    if done.returncode != 0:
        return f"exit code {done.returncode}: {done.stderr}"
    text = page.locator("main").inner_text()
    if verb == "explain":
        verdict = page.locator(".verdict").inner_text().split()[0].lower()
        return None if verdict in done.stdout.lower() else f"it does not say {verdict}: {done.stdout}"
    if verb == "check":
        titles = [line[2:].split(":")[0] for line in done.stdout.splitlines() if line[:1] in "√‼×" and line]
        if page.url.endswith("certificates"):
            titles = [title for title in titles if title.startswith(("Issuer", "Trust anchor"))]
        lacks = [title for title in titles if title not in text]
        return f"the page lacks {lacks}: {text}" if lacks or not titles else None
    if verb == "top":
        names = {line.split()[1] for line in done.stdout.splitlines()[1:]}
        page.wait_for_selector("#tap tbody tr", timeout=15_000)
        column = page.locator("#tap tbody tr").evaluate_all("rows => rows.map(row => row.cells[1].textContent)")
        return None if names and names == set(column) else f"it says {names}, the page {column}"
    return None


def agree(console, page, command):
    words = shlex.split(command)
    verb = words[1]
    if verb in TABLES:
        return rows_agree(console, page, verb, words)
    if verb == "tap":
        return tap_agrees(console, page, words)
    return text_agrees(console, page, verb, words)


def the_command_of_every_page_runs_and_says_the_same(console):
    ran = 0
    for name, path in PAGES.items():
        page = console.open(path)
        page.wait_for_load_state()
        for command in page.locator(".command code").all_inner_texts():
            if "NAME" in command:  # of a form that nobody filled in
                continue
            deadline = time.monotonic() + AGREE_SECONDS
            while (differs := agree(console, page, command)) and time.monotonic() < deadline:
                page.wait_for_timeout(1000)
                page.reload()
            expect(not differs, f"{name}: {command}: {differs}")
            ran += 1
        page.context.close()
    return f"{ran} commands"


FACTS = [the_command_of_every_page_runs_and_says_the_same]
