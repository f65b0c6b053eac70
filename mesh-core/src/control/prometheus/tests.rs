//! What a Prometheus, or something else, may answer, over a network in memory.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::control::query::Matcher;
use crate::control::testing;
use crate::runtime::net::ListenOptions;

/// A Prometheus that answers everything so, and what it was asked.
async fn asked(status: &str, body: &str) -> (Result<Answer<Row>, PrometheusError>, String) {
    let (runtime, _, _, net) = testing::runtime();
    net.set_name("prometheus", &[[10, 0, 0, 5].into()]);
    let at = SocketAddr::from(([10, 0, 0, 5], 9090));
    let listener = runtime.net.listen(at, ListenOptions::default()).await.unwrap();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (tell, told) = tokio::sync::oneshot::channel();
    runtime.spawn("prometheus", async move {
        let mut connection = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = connection.io.read(&mut asked).await.unwrap();
        asked.truncate(length);
        let _ = tell.send(String::from_utf8(asked).unwrap());
        connection.io.write_all(answer.as_bytes()).await.unwrap();
    });
    let url = "http://prometheus:9090/root/".parse().unwrap();
    let matchers = vec![Matcher::is("direction", "inbound")];
    let query = Query::last("tcp_open_connections", matchers, &["pod"]);
    let answer = Prometheus::new(&runtime, url).evaluate(&query, 1_500).await;
    (answer, told.await.unwrap())
}

#[tokio::test]
async fn an_answer_is_read_with_its_labels_and_warnings() {
    let body = r#"{"status":"success","warnings":["one store is away"],"data":{"resultType":"vector",
        "result":[{"metric":{"pod":"web-2"},"value":[1.5,"3.25"]},{"metric":{},"value":[1.5,"1"]},
        {"metric":{"pod":"x"},"value":[1.5,"NaN"]}]}}"#;
    let (answer, asked) = asked("200 OK", body).await;
    let row = |pod: &str, value| Row { labels: vec![pod.to_string()], value };
    let rows = vec![row("", 1.0), row("web-2", 3.25)];
    assert_eq!(answer.unwrap(), Answer { rows, warnings: vec!["one store is away".into()] });
    assert_eq!(
        asked.lines().next().unwrap(),
        "GET /root/api/v1/query?query=sum%20by%20%28pod%29%20%28tcp_open_connections%7Bdirection\
         %3D%22inbound%22%7D%29&time=1.500 HTTP/1.1"
    );
}

#[tokio::test]
async fn what_is_no_answer_says_why() {
    let error = async |status, body| asked(status, body).await.0.unwrap_err().to_string();
    let said = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let told = [
        error("400 Bad Request", said).await,
        error("200 OK", "<html>Welcome</html>").await,
        error("200 OK", "{\"status\":\"success\"}").await,
        error("200 OK", "{\"status\":\"success\",\"data\":{\"result\":[1,\"2\"]}}").await,
        error("404 Not Found", "no\u{1} such page").await,
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    the Prometheus at http://prometheus:9090/root/ answers 400 Bad Request: parse error
    what answers at http://prometheus:9090/root/ is no Prometheus: expected value at line 1 column 1
    what answers at http://prometheus:9090/root/ is no Prometheus: the answer has no result
    what answers at http://prometheus:9090/root/ is no Prometheus: invalid type: integer `1`, expected struct Samples at line 1 column 39
    the Prometheus at http://prometheus:9090/root/ answers 404 Not Found: no  such page
    "#);
}

#[tokio::test]
async fn one_that_is_not_there_is_said_to_be_unreachable() {
    let (runtime, ..) = testing::runtime();
    let query = Query::last("tcp_open_connections", vec![], &[]);
    for url in ["http://10.0.0.7:9090", "http://nobody:9090"] {
        let prometheus = Prometheus::new(&runtime, url.parse().unwrap());
        let error = prometheus.evaluate(&query, 0).await.unwrap_err();
        assert!(matches!(error, PrometheusError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(url), "{error}");
    }
}

#[test]
fn addresses_are_of_plain_http() {
    let port = |text: &str| text.parse::<PrometheusUrl>().map(|url| (url.port, url.path));
    assert_eq!(port("http://prometheus"), Ok((80, String::new())));
    assert_eq!(port("http://[::1]:9090/a/b/"), Ok((9090, "/a/b".to_string())));
    let wrong =
        ["", "prometheus:9090", "https://a", "http://", "http://u:p@a", "http://a/?b=c", "ftp://a"];
    for wrong in wrong {
        assert!(port(wrong).is_err(), "{wrong}");
    }
}
