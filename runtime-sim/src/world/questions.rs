//! Questions of people to the control plane, asked on the host of the first controller as they would
//! be on theirs: over HTTP, at the address of loopback.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::runtime::Runtime;
use mesh_core::runtime::net::TcpOptions;
use mesh_core::wire::http::h1::Connection;
use mesh_core::wire::http::{Body, Request};
use serde_json::Value;

use crate::lock;
use crate::topology::Role;

use super::{Simulator, World, mesh};

/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl<S: Simulator> World<S> {
    /// What the first controller answers to each path and query, one after the other.
    pub(super) fn ask(&mut self, questions: &[String]) -> Result<Vec<Value>, String> {
        questions.iter().map(|question| self.ask_one(question)).collect()
    }

    fn ask_one(&mut self, question: &str) -> Result<Value, String> {
        let host = self.controllers[0].host;
        let runtime = self.simulator.start(host, "people", Role::Proxy);
        let answer = Arc::new(Mutex::new(None));
        let (told, asked) = (answer.clone(), question.to_owned());
        runtime.clone().spawn("question", async move {
            let found = answer_of(&runtime, &asked).await;
            *lock(&told) = Some(found);
        });
        let until = self.simulator.now() + ANSWERS_WITHIN;
        self.simulator.run_while(until, &mut || lock(&answer).is_none());
        let answer = lock(&answer).take();
        answer
            .unwrap_or_else(|| Err("no answer".to_owned()))
            .map_err(|e| format!("{question}: {e}"))
    }
}

async fn answer_of(runtime: &Runtime, question: &str) -> Result<Value, String> {
    let connected = runtime.net.connect(mesh::VIZ, TcpOptions::default()).await;
    let io = connected.map_err(|error| error.to_string())?.io;
    let request = http::Request::get(question).header("host", "localhost").body(Body::empty());
    let mut request: Request = request.map_err(|error| error.to_string())?;
    let response = Connection::new(runtime, io).send(&mut request, None).await;
    let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
    let body = body.read_to_end(ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
    match head.status.as_u16() {
        200 => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        status => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
    }
}
