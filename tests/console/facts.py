"""Facts of the console, on the demo's traffic."""

import http.client
import re
import urllib.parse

PAGES = {
    "overview": "",
    "topology": "topology",
    "health": "health",
    "namespaces": "namespaces",
    "namespace": "namespaces/demo",
    "workloads": "workloads",
    "workloads-tcp": "workloads?view=tcp",
    "workload": "workloads/demo/deployment/web",
    "service": "workloads/demo/service/api",
    "pod": "workloads/demo/pod/web-1",
    "routes": "routes",
    "authorities": "authorities",
    "authorities-from": "authorities?from=deployment%2Fweb&namespace=demo",
    "edges": "edges",
    "tap": "tap",
    "tap-live": "tap?resource=deploy%2Fweb&namespace=demo",
    "top-live": "top?resource=deploy%2Fweb&namespace=demo",
    "policy": "policy",
    "explained": "policy?from=deploy%2Fweb&to=svc%2Fapi%3A8080&namespace=demo",
    "certificates": "certificates",
    "missing": "namespaces/none",
}

# What every page must be, for those who do not see it as well. Each answers with what is wrong.
ACCESSIBLE = """() => {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  if (all("h1").length !== 1) wrong.push("not one h1");
  if (all("main").length !== 1) wrong.push("not one main");
  if (!document.documentElement.lang) wrong.push("no language");
  for (const table of all("table")) {
    if (!table.caption?.textContent) wrong.push("a table without a caption");
    for (const th of table.querySelectorAll("th")) if (!th.scope) wrong.push("a th without a scope");
  }
  for (const field of all("input:not([type=hidden]), select")) {
    if (!field.labels?.length) wrong.push("a field without a label: " + field.name);
  }
  for (const image of all("svg")) {
    const isSaid = image.getAttribute("aria-label") || image.getAttribute("aria-hidden") === "true";
    if (!isSaid) wrong.push("an image that nothing is said of");
  }
  for (const button of all("button, a[href]")) {
    const name = button.textContent.trim() || button.getAttribute("aria-label");
    if (!name) wrong.push("a link or button without a name: " + button.outerHTML.slice(0, 80));
  }
  const ids = all("[id]").map((one) => one.id);
  const twice = ids.filter((id, index) => ids.indexOf(id) !== index);
  if (twice.length) wrong.push("ids that are there twice: " + [...new Set(twice)]);
  if (all("[style], style, script:not([src])").length) wrong.push("inline styles or scripts");
  return wrong;
}"""


class Console:
    """A console, and how to open its pages. What the browser complains of is kept."""

    def __init__(self, browser, url, shots, programs):
        self.browser, self.url, self.shots, self.programs = browser, url, shots, programs

    def open(self, path, width=1440, scheme="light", **options):
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(self.url + path)
        return page

    def ask(self, path, headers=None, method="GET"):
        """An answer, by hand: its status, headers and text."""
        where = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read().decode()
        connection.close()
        return found


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def every_page_is_sound_wide_and_narrow_and_light_and_dark(console):
    looked = 0
    for name, path in PAGES.items():
        for width in (1440, 390):
            for scheme in ("light", "dark"):
                page = console.open(path, width, scheme)
                page.wait_for_timeout(150)
                over = page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                expect(over <= 0, f"{name} at {width}: {over} pixels too wide")
                wrong = page.evaluate(ACCESSIBLE)
                expect(not wrong, f"{name}: {wrong}")
                complaints = [one for one in page.complaints if name != "missing" or "404" not in one]
                expect(not complaints, f"{name}: {complaints}")
                if console.shots:
                    console.shots.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=console.shots / f"{name}-{width}-{scheme}.png", full_page=True)
                page.context.close()
                looked += 1
    return f"{looked} looks"


def every_page_says_its_command_and_its_place(console):
    for name, path in PAGES.items():
        page = console.open(path)
        if name != "missing":
            expect(page.locator(".command code").first.inner_text().startswith("weft "), f"{name} says no command")
            expect(page.locator("nav [aria-current=page]").count() == 1, f"{name} is nowhere")
        page.context.close()


def the_keyboard_reaches_everything(console):
    page = console.open("workloads")
    page.keyboard.press("Tab")
    expect(page.evaluate("document.activeElement.className") == "skip", "the first stop is not the skip link")
    page.keyboard.press("Enter")
    expect(page.evaluate("document.activeElement.id") == "main", "the skip link does not lead to the content")
    seen, rings = set(), 0
    for _ in range(60):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "[document.activeElement.tagName, document.activeElement.textContent.slice(0, 30),"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.add((where[0], where[1]))
        rings += where[2] != "none"
    for reached in ("INPUT", "SELECT", "A"):
        expect(any(tag == reached for tag, _ in seen), f"no {reached} was reached: {seen}")
    expect(any("web" in text for _, text in seen), f"no row was reached: {seen}")
    expect(rings >= 15, "what has the focus is not to be seen")
    page.context.close()


def a_page_changes_while_it_is_looked_at_and_keeps_the_focus(console):
    page = console.open("")
    page.set_viewport_size({"width": 1440, "height": 500})
    page.wait_for_selector(".live[data-state=live]")
    link = page.locator("#worst-table tbody a").first
    link.focus()
    page.evaluate("document.querySelector('#golden').dataset.mark = 'same'; scrollTo(0, 40)")
    before = page.locator("#golden").inner_html()
    page.wait_for_function(
        "before => document.querySelector('#golden').innerHTML !== before", arg=before, timeout=40_000
    )
    expect(page.evaluate("document.activeElement.closest('#worst-table') !== null"), "the focus was lost")
    expect(page.evaluate("document.querySelector('#golden').dataset.mark") == "same", "it was loaded anew")
    expect(page.evaluate("scrollY") == 40, "it was scrolled")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".live").get_attribute("data-state") == "paused", "it goes on")
    page.context.close()


def filters_are_of_the_address_and_of_the_history(console):
    page = console.open("workloads")
    page.get_by_label("Name", exact=True).fill("we")
    page.wait_for_function("() => document.querySelectorAll('#workload-table tbody tr').length === 1")
    expect(page.url.endswith("workloads?q=we"), page.url)
    expect(page.evaluate("document.activeElement.name") == "q", "the field lost the focus")
    expect("1 workload" in page.locator("#announce").inner_text(), "nobody is told how many there are")
    page.get_by_role("link", name="RPS").click()
    page.wait_for_selector("th[aria-sort=descending]")
    expect("sort=-rps" in page.url, page.url)
    page.go_back()
    page.wait_for_function("() => !document.querySelector('th[aria-sort=descending]')")
    again = console.open(page.url.removeprefix(console.url))
    expect(again.locator("#workload-table tbody tr").count() == 1, "the address does not say it all")
    again.context.close()
    page.context.close()


def without_a_script_pages_are_whole(console):
    page = console.open("workloads", java_script_enabled=False)
    expect(page.locator("#workload-table tbody tr").count() >= 5, "no rows")
    page.get_by_label("Name", exact=True).fill("api")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#workload-table tbody tr").count() == 1, "the form does nothing")
    expect(not page.locator(".live").is_visible(), "it says that it is live")
    page.context.close()


def the_theme_can_be_chosen_and_is_kept(console):
    page = console.open("", scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    page.locator("#theme").click()
    expect(page.evaluate(ground) != light, "it did not become dark")
    page.goto(console.url + "edges")
    expect(page.evaluate(ground) != light, "it was forgotten")
    page.context.close()


def edges_are_secured_and_say_by_whom(console):
    page = console.open("edges")
    rows = page.locator("#edge-table tbody tr").all_inner_texts()
    expect(len(rows) == 4, f"{rows}")
    expect(all("mutual TLS" in row for row in rows), f"{rows}")
    expect(any("web.demo" in row and "api.demo" in row for row in rows), f"{rows}")
    page.context.close()


def a_workload_has_its_callers_and_whom_it_calls(console):
    page = console.open("workloads/demo/deployment/web")
    titles = page.locator(".graph text.title").all_text_contents()
    expect(sorted(titles) == ["api", "load", "web"], f"{titles}")
    expect("load" in page.locator("#inbound-table").inner_text(), "no caller")
    page.locator(".graph a").last.click()
    page.wait_for_url("**/workloads/demo/deployment/api")
    page.context.close()


def a_tap_shows_requests_and_what_is_in_them(console):
    page = console.open("tap")
    page.get_by_label("Resource").fill("deploy/web")
    page.get_by_label("Namespace").select_option("demo")
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector("#tap tbody tr", timeout=15_000)
    expect("resource=deploy%2Fweb" in page.url, page.url)
    row = page.locator("#tap tbody button.row").first
    row.click()
    expect("Destination" in page.locator("#tap tr.more").inner_text(), "nothing unfolds")
    expect(row.get_attribute("aria-expanded") == "true", "it does not say that it is unfolded")
    page.get_by_role("button", name="Stop").click()
    expect("Stopped" in page.locator("#tap-state").inner_text(), "it goes on")
    expect(not page.complaints, f"{page.complaints}")
    page.goto(console.url + "tap?resource=deploy%2Fnone&namespace=demo")
    page.wait_for_function("() => document.querySelector('#tap-state').textContent.includes('none')")
    page.context.close()


def top_counts_requests(console):
    page = console.open("top?resource=deploy%2Fweb&namespace=demo")
    page.wait_for_selector("#tap tbody tr", timeout=15_000)
    count = "Number(document.querySelector('#tap tbody tr').cells[4].textContent)"
    before = page.evaluate(count)
    page.wait_for_function(f"() => {count} > {before}", timeout=15_000)
    expect("api" in page.locator("#tap tbody").inner_text(), "nothing of api")
    page.context.close()


def a_decision_is_explained(console):
    page = console.open("policy")
    page.get_by_label("Who sends").fill("deploy/web")
    page.get_by_label("Where to").fill("svc/api:8080")
    page.locator("form.ask").get_by_label("Namespace").select_option("demo")
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector(".verdict")
    expect("Allowed" in page.locator(".verdict").inner_text(), page.locator(".verdict").inner_text())
    expect(page.locator(".steps li").count() >= 4, "no derivation")
    expect("weft explain deploy/web svc/api:8080 -n demo" in page.locator(".command").inner_text(), "no command")
    page.get_by_label("Where to").fill("svc/nothing:80")
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector(".notice.bad")
    page.context.close()


def strangers_and_their_markup_are_kept_out(console):
    host = urllib.parse.urlsplit(console.url).netloc
    expect(console.ask("/", {"Host": "evil.example"})[0] == 403, "a rebound name is answered")
    expect(console.ask("/", {"Host": host, "Origin": "http://evil.example"})[0] == 403, "an origin")
    expect(console.ask("/", {"Host": host}, "POST")[0] == 405, "something can be posted")
    status, headers, _ = console.ask("/", {"Host": host})
    headers = {name.lower(): value for name, value in headers.items()}
    policy = headers["content-security-policy"]
    expect(status == 200 and "default-src 'none'" in policy and "unsafe" not in policy, policy)
    expect("frame-ancestors 'none'" in policy and headers["x-content-type-options"] == "nosniff", policy)
    evil = urllib.parse.quote("\"><img src=x onerror=alert(1)><script>alert(1)</script>")
    for path in (f"/workloads?q={evil}&sort={evil}&t={evil}", f"/namespaces/{evil}", f"/tap?resource={evil}",
                 f"/workloads/{evil}/{evil}/{evil}", f"/policy?from={evil}&to={evil}&path={evil}", f"/{evil}"):
        text = console.ask(path, {"Host": host})[2]
        expect("<img" not in text and not re.search(r"<script(?! src=| type=\"module\" src=)", text), path)


FACTS = [
    every_page_is_sound_wide_and_narrow_and_light_and_dark,
    every_page_says_its_command_and_its_place,
    the_keyboard_reaches_everything,
    a_page_changes_while_it_is_looked_at_and_keeps_the_focus,
    filters_are_of_the_address_and_of_the_history,
    without_a_script_pages_are_whole,
    the_theme_can_be_chosen_and_is_kept,
    edges_are_secured_and_say_by_whom,
    a_workload_has_its_callers_and_whom_it_calls,
    a_tap_shows_requests_and_what_is_in_them,
    top_counts_requests,
    a_decision_is_explained,
    strangers_and_their_markup_are_kept_out,
]
