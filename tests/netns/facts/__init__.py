"""The facts. Each is a function of the mesh that fails where it does not hold; its name says it."""

from facts import capture, cluster, failures, http, opaque, policy, secrecy, statistics, tap, tracing


def _facts_of(module):
    for name, fact in vars(module).items():
        if getattr(fact, "__module__", "") == module.__name__ and not name.startswith("_"):
            yield fact


MODULES = (capture, http, opaque, secrecy, policy, tap, statistics, failures, cluster, tracing)
ALL = [fact for module in MODULES for fact in _facts_of(module)]
