"""When two who scrape the same counters at moments of their own must say the same of them, and how much so.

What a Prometheus, or the controller in its place, says of a counter that grew by `n` is `n` times the window
over the time between the first and the last sample in it: of a window of 30 s, which holds three samples 10 s
apart, `n` times 3/2, whatever the moments are. This is so where each of the two has a sample in the window from
before the growth and one from after it, where the series was there all the time, and where it did not begin so
low that it would have been below zero at the window's start. So there is much traffic, a pause, less of the
same, and a pause.
"""

import json
import math
import time

INTERVAL = 10.0
# What a scrape may be late, to the seconds.
MARGIN = 0.7
# Relative: scrapes are late by up to a tenth of a second each, of the twenty between the outer two.
TOLERANCE = 0.01


class Disagreement(Exception):
    """What the two say differs."""


def pause(samples):
    """How long there is nothing between the two, where windows of so many samples are asked about: so that they
    hold the second alone for `INTERVAL` times `samples - 2` seconds, less what it took."""
    return INTERVAL * (samples - 1) - 2


def agreed(samples, warmed, began, ended, questions, ask):
    """Asks about the first window that fits what was, and about a longer one where that was too late.

    `samples` are those of the shortest window. The times are those of the monotonic clock: when the first traffic ended, and when the second began and
    ended. `ask(question, window)` gives the answers of all. What is said, and the time in seconds between the
    outer samples: what is said of a second is the growth over this.
    """
    differ = "there was no time to ask in"
    for held in range(samples, samples + 4):
        window = held * INTERVAL
        since = max(warmed + window, ended + INTERVAL) + MARGIN
        until = began + window - INTERVAL - MARGIN
        if max(since, time.monotonic()) > until:
            continue
        time.sleep(max(0.0, since - time.monotonic()))
        said, differ = _asked(questions, until, lambda question: ask(question, f"{window:.0f}s"))
        if not differ:
            return said, window - INTERVAL
    raise Disagreement(json.dumps(differ, indent=1))


def _asked(questions, until, ask):
    """Asks, and again where answers differ, for as long as the window holds it all."""
    said, left = {}, questions
    while True:
        differ = {}
        for what, question in left.items():
            said[what], *others = ask(question)
            differences = [difference(said[what], other) for other in others]
            if any(differences):
                differ[what] = differences
        if not differ or time.monotonic() > until:
            return said, differ
        left = {what: questions[what] for what in differ}


def difference(one, other, path=""):
    """Where two answers differ by more than they may; nothing where they do not."""
    if isinstance(one, float) and isinstance(other, float):
        is_same = math.isclose(one, other, rel_tol=TOLERANCE)
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        parts = (difference(one[key], other[key], f"{path}.{key}") for key in one)
        return next(filter(None, parts), None)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = (difference(a, b, f"{path}[{at}]") for at, (a, b) in enumerate(zip(one, other)))
        return next(filter(None, parts), None)
    else:
        is_same = one == other
    return None if is_same else f"{path}: {one!r}, {other!r}"
