//! What an injection did, for people: Linkerd's report.

use std::fmt::Write;

use super::documents::{Outcome, Reported};
use super::inject::Skip;

const OK: &str = "√";
const WARNING: &str = "‼";

/// The report of an injection: what was not done and why, what to look at, then a line for each
/// object. `verbose` also tells what was looked at and found in order.
pub fn of_injection(objects: &[Reported], verbose: bool) -> String {
    let mut report = Report { text: String::new(), verbose };
    let skipped = |reason| move |object: &&Reported| object.outcome == Outcome::Skipped(reason);
    let named = |wanted: &dyn Fn(&&Reported) -> bool| names(objects.iter().filter(wanted));
    report.check(
        &named(&skipped(Skip::HostNetwork)),
        "\"hostNetwork: true\" detected in",
        "pods do not use host networking",
    );
    report.check(
        &named(&skipped(Skip::HasSidecar)),
        "known 3rd party sidecar detected in",
        "pods do not have a 3rd party proxy or initContainer already injected",
    );
    report.check(
        &named(&skipped(Skip::Disabled)),
        "\"linkerd.io/inject: disabled\" annotation set on",
        "pods are not annotated to disable injection",
    );
    let supported = objects.iter().any(|object| object.outcome != Outcome::Unsupported);
    match supported {
        false => report.line(WARNING, "no supported objects found"),
        true if verbose => report.line(OK, "at least one resource can be injected or annotated"),
        true => {}
    }
    report.check(
        &named(&|object: &&Reported| object.has_udp),
        "UDP ports, whose traffic is not proxied, detected in",
        "pod specs do not include UDP ports",
    );
    for object in objects {
        for remark in &object.remarks {
            report.line(WARNING, &format!("{}/{}: {remark}", object.kind, object.name));
        }
    }
    report.summary(objects);
    report.text
}

/// The report of an undone injection.
pub fn of_undoing(objects: &[Reported]) -> String {
    let mut report = Report { text: String::new(), verbose: false };
    report.summary(objects);
    report.text
}

struct Report {
    text: String,
    verbose: bool,
}

impl Report {
    fn line(&mut self, status: &str, what: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{status} {what}");
    }

    fn check(&mut self, found: &str, fault: &str, fine: &str) {
        match found {
            "" if self.verbose => self.line(OK, fine),
            "" => {}
            found => self.line(WARNING, &format!("{fault} {found}")),
        }
    }

    fn summary(&mut self, objects: &[Reported]) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for Reported { kind, name, outcome, .. } in objects {
            let outcome = match outcome {
                Outcome::Injected => "injected",
                Outcome::Annotated => "annotated",
                Outcome::Uninjected => "uninjected",
                Outcome::Skipped(_) | Outcome::Unsupported => "skipped",
            };
            let _ = match kind.as_str() {
                "" => writeln!(self.text, "document missing \"kind\" field, skipped"),
                kind => writeln!(self.text, "{kind} \"{name}\" {outcome}"),
            };
        }
    }
}

fn names<'a>(objects: impl Iterator<Item = &'a Reported>) -> String {
    let names = objects.map(|object| format!("{}/{}", object.kind, object.name));
    names.collect::<Vec<_>>().join(", ")
}
