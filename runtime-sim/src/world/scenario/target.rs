//! Whom a fault is done to.

use std::fmt;

use super::text::is_text;

/// Whom a fault is done to: one host or several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `all`: every host of the world.
    All,
    /// `web-0`.
    Pod(String),
    /// `deployment/web`: its pods, whichever they are then.
    Deployment(String),
    /// `deployment/web/1`: the one of its pods that is number 1 then, from the oldest on, counted
    /// around. A fault that lasts stays with the pod that it met.
    PodOf(String, u32),
    /// `node/1`: what runs on it.
    Node(String),
    /// `zone/a`: what runs on its nodes.
    Zone(String),
    /// `controller`: every controller; `controller-1`: that one.
    Controller(Option<u32>),
}

is_text!(
    Target,
    "target",
    "A pod's name, deployment/NAME, deployment/NAME/N, node/NAME, zone/NAME, controller, controller-N, or \
     all.",
    "web-0",
    "deployment/web",
    "controller"
);

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    /// What is wrong with it, and the valid forms.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            Err(format!(
                "`{text}` {what}: write a pod's name, deployment/NAME, deployment/NAME/N, node/NAME, \
                 zone/NAME, controller, controller-N, or all"
            ))
        };
        let number = text.strip_prefix("controller-").and_then(|number| number.parse().ok());
        match (text.split_once('/'), text) {
            (_, "all") => Ok(Self::All),
            (_, "controller") => Ok(Self::Controller(None)),
            (_, "") => wrong("names nothing"),
            (None, _) if number.is_some() => Ok(Self::Controller(number)),
            (None, pod) => Ok(Self::Pod(pod.to_owned())),
            (Some((_, "")), _) => wrong("names nothing"),
            (Some(("deployment", name)), _) => match name.split_once('/') {
                None => Ok(Self::Deployment(name.to_owned())),
                Some(("", _)) => wrong("names nothing"),
                Some((name, number)) => match number.parse() {
                    Ok(number) => Ok(Self::PodOf(name.to_owned(), number)),
                    Err(_) => wrong("numbers no pod"),
                },
            },
            (Some(("node", name)), _) => Ok(Self::Node(name.to_owned())),
            (Some(("zone", name)), _) => Ok(Self::Zone(name.to_owned())),
            (Some(_), _) => wrong("is no target"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Pod(name) => f.write_str(name),
            Self::Deployment(name) => write!(f, "deployment/{name}"),
            Self::PodOf(name, number) => write!(f, "deployment/{name}/{number}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Zone(name) => write!(f, "zone/{name}"),
            Self::Controller(None) => f.write_str("controller"),
            Self::Controller(Some(number)) => write!(f, "controller-{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_printed() {
        let all = [
            "all",
            "web-0",
            "deployment/web",
            "deployment/web/1",
            "node/1",
            "zone/a",
            "controller",
            "controller-1",
        ];
        for text in all {
            let target = Target::read(text).expect("a target");
            assert_eq!(target.to_string(), text);
        }
        assert_eq!(Target::read("controller-1"), Ok(Target::Controller(Some(1))));
    }

    #[test]
    fn what_is_no_target_is_told_with_the_forms() {
        let faults = ["", "pod/web-0", "zone/", "deployment/web/first"]
            .map(|text| Target::read(text).unwrap_err());
        insta::assert_snapshot!(faults.join("\n"), @r#"
        `` names nothing: write a pod's name, deployment/NAME, deployment/NAME/N, node/NAME, zone/NAME, controller, controller-N, or all
        `pod/web-0` is no target: write a pod's name, deployment/NAME, deployment/NAME/N, node/NAME, zone/NAME, controller, controller-N, or all
        `zone/` names nothing: write a pod's name, deployment/NAME, deployment/NAME/N, node/NAME, zone/NAME, controller, controller-N, or all
        `deployment/web/first` numbers no pod: write a pod's name, deployment/NAME, deployment/NAME/N, node/NAME, zone/NAME, controller, controller-N, or all
        "#);
    }
}
