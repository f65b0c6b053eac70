"""Looks at the console in a real browser: on the demo's traffic, and on a mesh of 1,000 workloads.

    tests/console/run.py --programs target/release [--shots DIR] [FACT…]

Needs a Chromium (`apt-get install chromium`) and Playwright for Python (`pip install playwright`, which
brings no browser). Exits with 77 where it has neither, and says so.
"""

import argparse
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="where weft and weft-proxy are")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    parser.add_argument("--shots", type=pathlib.Path, help="put screenshots of every page here")
    parser.add_argument("facts", nargs="*", help="words of the facts that are to be looked at")
    args = parser.parse_args()
    if not args.chromium:
        skip("no Chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip("no Playwright: pip install playwright")

    import commands
    import facts
    import large
    import mesh
    import terminal

    wanted = [word.lower() for word in args.facts]
    failed = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        for world, modules in ((mesh.demo, (facts, commands, terminal)), (mesh.thousand, (large,))):
            chosen = [
                (fact.__name__.replace("_", " "), fact)
                for module in modules
                for fact in module.FACTS
                if not wanted or any(word in fact.__name__.replace("_", " ") for word in wanted)
            ]
            if not chosen:
                continue
            with world(args.programs) as url:
                for name, fact in chosen:
                    try:
                        said = fact(facts.Console(browser, url, args.shots, args.programs))
                        print(f"ok      {name}" + (f": {said}" if said else ""))
                    except Exception as error:  # whatever is wrong is told, and the rest looked at
                        failed.append(name)
                        print(f"FAILED  {name}: {error}")
        browser.close()
    if failed:
        print(f"{len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
