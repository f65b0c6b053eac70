//! Header fields that belong to one connection and are not passed on (RFC 9110, section 7.6.1).
//! Knows neither framing nor versions: the codecs write their own framing fields.
//!
//! Law: stripping twice is stripping once; it removes the listed fields and those that `Connection`
//! names, and nothing else. `Host` and `Content-Length` stay even where `Connection` names them:
//! a client could otherwise take from a request what the next hop routes and frames it by.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};

/// `Keep-Alive`: parameters of a persistent connection (RFC 2068, section 19.7.1.1).
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// `Proxy-Connection`: what some clients send to a proxy instead of `Connection`.
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Every field that belongs to one connection.
static ALL: [HeaderName; 6] =
    [CONNECTION, UPGRADE, TRANSFER_ENCODING, TE, KEEP_ALIVE, PROXY_CONNECTION];

/// Removes everything that belongs to one connection: `Connection` and what it names,
/// `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding`, `Upgrade`, and `TE` but for `trailers`.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Between proxies there are none: one look at each field there is costs less than one for each
    // that could be.
    if !headers.keys().any(|name| ALL.contains(name)) {
        return;
    }
    strip(headers);
    headers.remove(UPGRADE);
}

/// As [`strip_hop_by_hop`], but an upgrade under way is passed on: where `Connection` names
/// `upgrade` and there is an `Upgrade` field, both stay (and of `Connection` nothing else).
pub fn strip_hop_by_hop_but_upgrade(headers: &mut HeaderMap) {
    if !is_upgrade(headers) {
        return strip_hop_by_hop(headers);
    }
    strip(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Whether the sender offers (in a request) or accepts (in a 101 response) an upgrade.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && connection_names(headers, "upgrade")
}

/// Whether `Connection` has this option. `option` is in lower case.
pub fn connection_names(headers: &HeaderMap, option: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| options(value).any(|found| found.eq_ignore_ascii_case(option.as_bytes())))
}

/// All but `Upgrade`.
fn strip(headers: &mut HeaderMap) {
    // Almost always there is at most one value, so that this allocates nothing.
    let mut values = headers.get_all(CONNECTION).iter().cloned();
    let first = values.next();
    let rest: Vec<HeaderValue> = values.collect();
    for value in first.iter().chain(&rest) {
        for option in options(value) {
            remove_named(headers, option);
        }
    }
    headers.remove(CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    strip_te(headers);
}

fn remove_named(headers: &mut HeaderMap, option: &[u8]) {
    let Ok(option) = std::str::from_utf8(option) else {
        return;
    };
    // `TE` must be named, and is dealt with apart; `Upgrade` likewise.
    let kept = [&HOST, &CONTENT_LENGTH, &TE, &UPGRADE];
    if kept.iter().any(|name| option.eq_ignore_ascii_case(name.as_str())) {
        return;
    }
    headers.remove(option);
}

/// Of `TE`, only `trailers` may be passed on.
fn strip_te(headers: &mut HeaderMap) {
    if !headers.contains_key(TE) {
        return;
    }
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| options(value).any(|option| option.eq_ignore_ascii_case(b"trailers")));
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// The members of a comma-separated list.
fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a test's name is one"),
                HeaderValue::from_str(value).expect("a test's value is one"),
            );
        }
        headers
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut found = headers(&[
            ("connection", "close, X-Once ,host"),
            ("connection", "x-twice"),
            ("host", "a"),
            ("x-once", "1"),
            ("x-twice", "2"),
            ("x-kept", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip, Trailers"),
        ]);
        strip_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("host", "a"), ("x-kept", "3"), ("te", "trailers")]));
    }

    #[test]
    fn each_field_of_one_connection_goes_where_it_is_alone() {
        for name in
            ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"]
        {
            let mut found = headers(&[("host", "a"), (name, "x")]);
            strip_hop_by_hop(&mut found);
            assert_eq!(found, headers(&[("host", "a")]), "{name}");
        }
    }

    #[test]
    fn an_upgrade_under_way_is_passed_on() {
        let mut found = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        strip_hop_by_hop_but_upgrade(&mut found);
        assert_eq!(found, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn an_upgrade_that_connection_does_not_name_is_none() {
        let mut found = headers(&[("upgrade", "websocket"), ("te", "gzip")]);
        strip_hop_by_hop_but_upgrade(&mut found);
        assert_eq!(found, HeaderMap::new());
    }

    const NAMES: [&str; 10] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "x-a",
        "x-b",
    ];

    proptest! {
        #[test]
        fn stripping_is_idempotent_and_takes_only_what_is_hop_by_hop(
            lines in prop::collection::vec(
                (prop::sample::select(&NAMES[..]), "[xX]-[abAB]|close|Trailers|host|,|x-a, te"),
                0..12,
            )
        ) {
            let before = headers(&lines.iter().map(|(n, v)| (*n, v.as_str())).collect::<Vec<_>>());
            let mut after = before.clone();
            strip_hop_by_hop(&mut after);
            for name in &NAMES[..6] {
                prop_assert!(*name == "te" || !after.contains_key(*name));
            }
            prop_assert!(after.get(TE).is_none_or(|value| value == "trailers"));
            for name in &NAMES[6..] {
                let named = !["host", "content-length"].contains(name)
                    && connection_names(&before, name);
                let expected: Vec<_> = before.get_all(*name).iter().filter(|_| !named).collect();
                let found: Vec<_> = after.get_all(*name).iter().collect();
                prop_assert_eq!(found, expected);
            }
            let once = after.clone();
            strip_hop_by_hop(&mut after);
            prop_assert_eq!(after, once);
        }
    }
}
