//! The question of an address: `?namespace=shop&to=deploy%2Fweb` (WHATWG URL, section 5).

use ::http::Uri;

/// Names and values, decoded, in the order that they were given in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// What of a query cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct InvalidQuery {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl Query {
    /// The query of an address.
    pub fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a name, where it is not empty: forms send fields that nobody filled in.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Every value of a name that is not empty.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let of_name = self.0.iter().filter(move |(given, _)| given == name);
        of_name.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A value read as something.
    ///
    /// # Errors
    /// [`InvalidQuery`] with `remedy`, where it cannot be.
    pub fn parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        remedy: &str,
    ) -> Result<Option<T>, InvalidQuery> {
        let read = |value: &str| {
            value.parse().map_err(|_| InvalidQuery {
                message: format!("{name}={value:?} cannot be taken"),
                remedy: remedy.to_string(),
            })
        };
        self.value(name).map(read).transpose()
    }

    /// Whether a name is given, as itself, or as `true` or `1`.
    pub fn is_set(&self, name: &str) -> bool {
        let given = self.0.iter().find(|(given, _)| given == name);
        given.is_some_and(|(_, value)| matches!(value.as_str(), "" | "1" | "true"))
    }

    /// All but these names.
    pub fn without(&self, names: &[&str]) -> Self {
        let others = self.0.iter().filter(|(given, _)| !names.contains(&given.as_str()));
        Self(others.cloned().collect())
    }

    /// # Errors
    /// [`InvalidQuery`] where there is any other name than these.
    pub fn only(&self, names: &[&str]) -> Result<(), InvalidQuery> {
        match self.0.iter().find(|(given, _)| !names.contains(&given.as_str())) {
            None => Ok(()),
            Some((other, _)) => Err(InvalidQuery {
                message: format!("there is no {other:?}"),
                remedy: match names {
                    [] => "give nothing after the path".to_string(),
                    names => format!("there are {}", names.join(", ")),
                },
            }),
        }
    }
}

/// Undoes percent-encoding; what is no such encoding is left as it stands.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(hexadecimal: u8) -> Option<u8> {
    (hexadecimal as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A name or value for an address: [`Query::of`] undoes it.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte as char);
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/api/v1/stat?{text}").parse().unwrap())
    }

    #[test]
    fn values_are_found_by_name() {
        let query = query("to=deploy%2Fweb&l=a%3Db+c&l=d&all&empty=&window=x");
        assert_eq!(query.value("to"), Some("deploy/web"));
        assert_eq!(query.values("l").collect::<Vec<_>>(), ["a=b c", "d"]);
        assert_eq!((query.value("empty"), query.value("from")), (None, None));
        assert!(query.is_set("all") && !query.is_set("to") && !query.is_set("from"));
        let wrong = query.parsed::<u32>("window", "give seconds").unwrap_err();
        assert_eq!(wrong.to_string(), "window=\"x\" cannot be taken; give seconds");
    }

    #[test]
    fn what_nobody_reads_is_refused() {
        let wrong = query("namspace=shop").only(&["namespace", "to"]).unwrap_err();
        assert_eq!(wrong.to_string(), "there is no \"namspace\"; there are namespace, to");
        assert_eq!(query("to=x").only(&["namespace", "to"]), Ok(()));
    }

    #[test]
    fn what_is_no_encoding_stays() {
        assert_eq!(query("a=100%&b=%zz&c=%C3%A9&d=%ff").value("a"), Some("100%"));
        assert_eq!(query("b=%zz").value("b"), Some("%zz"));
        assert_eq!(query("c=%C3%A9").value("c"), Some("é"));
        assert_eq!(query("d=%ff").value("d"), Some("\u{fffd}"));
    }

    proptest! {
        #[test]
        fn encoded_texts_come_back(name in "[a-z]{1,8}", value in "\\PC{1,24}") {
            let query = query(&format!("{}={}", encode(&name), encode(&value)));
            prop_assert_eq!(query.value(&name), Some(value.as_str()));
        }
    }
}
