//! The answer to the policy page's form: what would become of a request, asked of
//! [`explain`](crate::control::explain).

use crate::control::explain::{
    Asked as Sent, Cited, Explanation, Outcome, Question, Step, Verdict, explain, explain_denial,
};
use crate::control::viz::Viz;

use super::graph::State;
use super::link::Asked;
use super::policy;

/// The answer; none where nothing was asked.
pub(crate) fn answer(viz: &Viz, asked: &Asked) -> Option<Result<policy::Explained, String>> {
    let value = |name| Some(asked.value(name)).filter(|value| !value.is_empty());
    let publisher = &viz.parts().publisher;
    let explained = match (value("reference"), value("from"), value("to")) {
        (Some(reference), ..) => match reference.parse() {
            Err(error) => Err(format!("reference {reference:?}: {error}")),
            Ok(id) => {
                publisher.read(|view| explain_denial(view, id)).map_err(|error| error.to_string())
            }
        },
        (None, Some(from), Some(to)) => {
            let sent = Sent::read(
                value("protocol"),
                value("method"),
                value("path"),
                value("header").into_iter(),
            );
            let question = sent.map(|request| Question {
                from: from.to_string(),
                to: to.to_string(),
                namespace: value("namespace").map(str::to_string),
                request,
            });
            question
                .and_then(|question| publisher.read(|view| explain(view, &question)))
                .map_err(|error| error.to_string())
        }
        // Links from elsewhere fill in one end alone.
        (None, ..) => return None,
    };
    Some(explained.map(|explanation| view(&explanation)))
}

fn view(explanation: &Explanation) -> policy::Explained {
    let ways = explanation.ways.iter().map(|way| {
        let endpoints = match way.endpoints.as_slice() {
            [] => "no endpoint".to_string(),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        let title = format!("{} ({:.0} %): {endpoints}", way.backend, way.percent);
        (title, way.steps.iter().map(step).collect(), verdict(&way.verdict))
    });
    policy::Explained {
        from: explanation.from.clone(),
        to: explanation.to.clone(),
        request: explanation.request.clone(),
        steps: explanation.steps.iter().map(step).collect(),
        ways: ways.collect(),
        verdict: verdict(&explanation.verdict),
    }
}

fn step(step: &Step) -> policy::Step {
    policy::Step {
        title: capitalized(step.name.title()),
        state: state(step.outcome),
        says: step.says.clone(),
        because: step.because.clone(),
        objects: step.objects.iter().map(cited).collect(),
    }
}

fn verdict(verdict: &Verdict) -> (State, String) {
    let says = match verdict.outcome {
        // Which says that it is.
        Outcome::Allowed => capitalized(&verdict.says),
        Outcome::Refused => format!("Refused: {}", verdict.says),
        Outcome::Depends => format!("It depends: {}", verdict.says),
    };
    (state(verdict.outcome), says)
}

fn state(outcome: Outcome) -> State {
    match outcome {
        Outcome::Allowed => State::Good,
        Outcome::Refused => State::Bad,
        Outcome::Depends => State::Warn,
    }
}

fn cited(object: &Cited) -> String {
    match object.namespace.as_str() {
        "" => format!("{}/{}", object.kind, object.name),
        namespace => format!("{}/{namespace}/{}", object.kind, object.name),
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
