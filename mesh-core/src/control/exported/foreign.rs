//! Texts of metrics, read by programs that are not ours: `promtool` (Debian's package `prometheus`),
//! and Python's `prometheus_client` with its strict reader of OpenMetrics. Where they are not
//! installed, the tests say so and hold nothing.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{controller, proxy};
use crate::telemetry::format::Format;

/// Names that are Linkerd's, on which dashboards and alerts are built: promtool would have seconds.
const LINKERDS: [&str; 2] = ["response_latency_ms", "control_response_latency_ms"];

const STRICT_READER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
print(sum(len(family.samples) for family in read(sys.stdin.read())))
";

/// What a program says of `text` on its standard input, and whether it is content; nothing where
/// there is no such program.
pub(super) fn ask(program: &str, arguments: &[&str], text: &str) -> Option<(String, bool)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut input = child.stdin.take().unwrap();
    // It may end before it has read all; what it says then tells why.
    let _ = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((String::from_utf8_lossy(&said).into_owned(), output.status.success()))
}

#[tokio::test(start_paused = true)]
async fn promtool_finds_nothing_wrong_but_linkerds_own_names() {
    for (who, text) in
        [("proxy", proxy(Format::Text)), ("controller", controller(Format::Text).await)]
    {
        let Some((said, _)) = ask("promtool", &["check", "metrics"], &text) else {
            println!("skipped: promtool is not installed (Debian's package prometheus)");
            return;
        };
        let is_linkerds =
            |line: &&str| LINKERDS.iter().any(|name| line.starts_with(&format!("{name} ")));
        let wrong: Vec<_> = said.lines().filter(|line| !is_linkerds(line)).collect();
        assert!(wrong.is_empty(), "of the {who}'s metrics promtool says:\n{}", wrong.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_strict_reader_takes_the_open_metrics() {
    let python = option_env!("WEFT_TEST_PYTHON").unwrap_or("python3");
    if !ask(python, &["-c", "import prometheus_client"], "").is_some_and(|(_, is_there)| is_there) {
        println!("skipped: {python} has no prometheus_client");
        return;
    }
    let texts = [proxy(Format::OpenMetrics), controller(Format::OpenMetrics).await];
    for text in texts {
        let (said, is_content) = ask(python, &["-c", STRICT_READER], &text).unwrap();
        assert!(is_content, "{said}");
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(said.trim(), samples.to_string());
    }
}
