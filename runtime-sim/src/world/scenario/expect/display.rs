//! Expectations in words.

use std::fmt;

use super::{
    Between, DefaultOracle, Expectation, TapLoss, TapOnly, TapRefused, TapSays, Tapped, Value,
    Window,
};

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, None) => Ok(()),
            (Some(from), None) => write!(f, " from {from}"),
            (None, Some(to)) => write!(f, " until {to}"),
            (Some(from), Some(to)) => write!(f, " from {from} to {to}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds =
            [("exactly", self.equals), ("at least", self.at_least), ("at most", self.at_most)];
        let mut first = true;
        for (words, bound) in bounds {
            let Some(bound) = bound else { continue };
            let and = if first { "" } else { " and " };
            write!(f, "{and}{words} {bound}")?;
            first = false;
        }
        if first { f.write_str("any value") } else { Ok(()) }
    }
}

impl fmt::Display for DefaultOracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conserved => "conserved",
            Self::NoPlaintext => "no_plaintext",
            Self::NoPanics => "no_panics",
            Self::Live => "live",
            Self::NoLeak => "no_leak",
            Self::Memory => "memory",
        })
    }
}

/// ` of web-0`, or nothing.
struct Of<'a>(&'a Option<String>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |pod| write!(f, " of {pod}"))
    }
}

/// ` {words} {bound}`, or nothing.
struct Bound<T>(&'static str, Option<T>);

impl<T: fmt::Display> fmt::Display for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(words, bound) = self;
        bound.as_ref().map_or(Ok(()), |bound| write!(f, " {words} {bound}"))
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(workload) = self.workload() {
            write!(f, "{workload}: ")?;
        }
        match self {
            Self::Requests { at_least, .. } => write!(f, "at least {at_least} answered requests"),
            Self::SuccessRate { at_least, window, .. } => {
                write!(f, "success rate at least {at_least}{window}")
            }
            Self::Failures { at_most, window, .. } => {
                write!(f, "at most {at_most} failed requests{window}")
            }
            Self::Conserved { .. } => f.write_str("every request accounted for exactly once"),
            Self::LoadShare { pod, at_least, at_most, window, .. } => {
                let (least, most) = (Bound("at least", *at_least), Bound("at most", *at_most));
                write!(f, "load share of {pod}{least}{most}{window}")
            }
            Self::EvenLoad { deployment, within, window, .. } => {
                write!(f, "load even over {deployment} to {within} of the fair share{window}")
            }
            Self::Latency { quantile, at_most, window, .. } => {
                write!(f, "latency quantile {quantile} at most {at_most}{window}")
            }
            Self::InFlight { at_most, window, .. } => {
                write!(f, "at most {at_most} requests in flight{window}")
            }
            Self::Live { last, .. } => {
                write!(f, "nothing hangs, and requests succeed in the last {last}")
            }
            Self::Identity { client: Some(client), .. } => {
                write!(f, "the server sees the client as {client}")
            }
            Self::Identity { .. } => f.write_str("the server sees the sender's own identity"),
            Self::Denied { window, .. } => write!(f, "every request is denied{window}"),
            Self::NotExecuted { window, .. } => write!(f, "no request is executed{window}"),
            Self::RetryBudget { at_most, per, .. } => {
                write!(f, "at most {at_most} more executions than requests in any {per}")
            }
            other => other.fmt_of_the_mesh(f),
        }
    }
}

impl Expectation {
    fn fmt_of_the_mesh(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlaintext { between: Between::Meshed } => {
                f.write_str("no plaintext between meshed pods")
            }
            Self::NoPlaintext { between: Between::All } => {
                f.write_str("no plaintext between hosts")
            }
            Self::NoTraffic { pod, after } => write!(f, "no traffic to {pod} after {after}"),
            Self::NoTrafficToDead { within } => {
                write!(f, "no traffic to pods that are gone for {within}")
            }
            Self::Converged { within } => {
                write!(f, "every proxy has the cluster's endpoints {within} after each fault")
            }
            Self::Bounded { pod, heap_at_most, sockets_at_most, tasks_at_most, growth_at_most } => {
                let heap = Bound("heap at most", *heap_at_most);
                let sockets = Bound("sockets at most", *sockets_at_most);
                let tasks = Bound("tasks at most", *tasks_at_most);
                let growth = Bound("growth at most", *growth_at_most);
                write!(f, "usage{}:{heap}{sockets}{tasks}{growth}", Of(pod))
            }
            Self::ConnectAttempts { from, to, at_most, per, window } => {
                let by = from.as_deref().unwrap_or("all");
                let to = to.as_deref().unwrap_or("all");
                write!(
                    f,
                    "at most {at_most} connections tried by {by} to {to} in any {per}{window}"
                )
            }
            Self::MetricsAgree { .. } => f.write_str("the proxies counted what the workloads did"),
            Self::Eventually { metric, pod, window, .. } => {
                write!(f, "{metric}{} is once {}{window}", Of(pod), self.value())
            }
            Self::Never { metric, pod, window, .. } => {
                write!(f, "{metric}{} is never {}{window}", Of(pod), self.value())
            }
            Self::NoLeak { .. } => f.write_str("nothing is left over in the end"),
            Self::Tapped(Tapped { tap, side, at_least, window, .. }) => {
                write!(f, "{tap} tells of each once, {side}, of {at_least} at least{window}")
            }
            Self::TapOnly(TapOnly { tap, .. }) => write!(f, "{tap} tells of no other requests"),
            Self::TapLoss(TapLoss { tap, side, at_least, window, .. }) => {
                let least = Bound("and at least", Some(*at_least).filter(|least| *least > 0));
                write!(f, "{tap} tells what it loses{least}, {side}{window}")
            }
            Self::TapSays(TapSays { tap, text, window }) => {
                write!(f, "{tap} says `{text}`{window}")
            }
            Self::TapRefused(TapRefused { tap, text }) => {
                write!(f, "{tap} is refused and tells nothing: `{text}`")
            }
            Self::Relaxed { oracle, because, .. } => {
                write!(f, "{oracle} need not hold, because {because}")
            }
            // Those of a workload are written above.
            _ => Ok(()),
        }
    }
}
