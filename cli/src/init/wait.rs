//! What a sidecar's containers wait for: that traffic is redirected, that the proxy is ready.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::InitError;
use super::options::{Await, Validate};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Before one question is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connects to an address that nobody has, and must find itself there.
pub(super) fn validate(validate: &Validate) -> Result<(), InitError> {
    let token = format!("weft-init {} {:?}\n", std::process::id(), Instant::now());
    let failed = |what: String| InitError::Wait(what);
    let listener = TcpListener::bind(validate.listen_addr)
        .map_err(|error| failed(format!("cannot listen on {}: {error}", validate.listen_addr)))?;
    let said = token.clone();
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(said.as_bytes());
        }
    });
    let deadline = Instant::now() + validate.timeout;
    loop {
        if read(validate.connect_addr, "").is_ok_and(|heard| heard == token) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(failed(format!(
                "a connection to {} did not come to {} within {:?}: this pod's traffic is not \
                 redirected; is the CNI plugin on this node, and did it come before the pod?",
                validate.connect_addr, validate.listen_addr, validate.timeout
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Asks the proxy until it is ready.
pub(super) fn until_ready(ready: &Await) -> Result<(), InitError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ready.port));
    let deadline = Instant::now() + ready.timeout;
    loop {
        let question = "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = read(address, question);
        if answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let last = match answer {
                Ok(answer) => answer.lines().next().unwrap_or("nothing").to_string(),
                Err(error) => error.to_string(),
            };
            let waited = ready.timeout;
            let fault = format!("the proxy is not ready after {waited:?}: {address} says: {last}");
            return Err(InitError::Wait(fault));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What is heard after a question, up to the end of a small answer.
fn read(address: SocketAddr, question: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question.as_bytes())?;
    let mut heard = Vec::new();
    stream.take(1024).read_to_end(&mut heard)?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(answer: &'static str) -> (TcpListener, Await) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let accepting = listener.try_clone().expect("a socket");
        std::thread::spawn(move || {
            let (mut stream, _) = accepting.accept().expect("a question");
            let mut question = [0; 1024];
            let _ = stream.read(&mut question);
            stream.write_all(answer.as_bytes()).expect("to answer");
        });
        (listener, Await { port, timeout: Duration::ZERO })
    }

    #[test]
    fn a_proxy_that_is_ready_is_not_waited_for() {
        let (_listener, ready) = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(until_ready(&ready).is_ok());
    }

    #[test]
    fn who_waits_too_long_is_told_what_the_proxy_says() {
        let (_listener, ready) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let fault = until_ready(&ready).unwrap_err().to_string();
        assert!(fault.ends_with("says: HTTP/1.1 503 Service Unavailable"), "{fault}");
    }
}
