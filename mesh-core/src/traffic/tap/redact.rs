//! Takes secrets out of the beginning of a body before anybody sees it: the values of fields of
//! JSON and of forms whose names are secret.
//!
//! It reads text as it finds it, for a body's beginning is no document: a value that is cut off is
//! taken out to the end, and so is one whose form is not understood. What is no text is not shown.

/// What stands for what was taken out.
pub const REDACTED: &str = "***";

/// Whether a body of this type is text whose fields can be told apart.
pub fn is_readable(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || essence.ends_with("+json")
        || essence == "application/x-www-form-urlencoded"
        || essence == "text/plain"
}

/// The same text without the values of these fields. Names are compared without regard to case,
/// to `-` and to `_`. What is not UTF-8 is replaced.
pub fn body(data: &[u8], fields: &[String]) -> String {
    let text = String::from_utf8_lossy(data);
    let mut shown = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((value, end)) = next_secret(rest, fields) {
        shown.push_str(&rest[..value]);
        shown.push_str(REDACTED);
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

/// Where the value of the next secret field begins and ends.
fn next_secret(text: &str, fields: &[String]) -> Option<(usize, usize)> {
    let mut at = 0;
    while at < text.len() {
        let begin = at + text[at..].find(is_of_name)?;
        let name = text[begin..].find(|c| !is_of_name(c)).map_or(text.len(), |len| begin + len);
        at = name;
        if is_secret(&text[begin..name], fields)
            && let Some((value, form)) = value_after(&text[name..])
        {
            let value = name + value;
            return Some((value, value + length(&text[value..], form)));
        }
    }
    None
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '%')
}

fn is_secret(name: &str, fields: &[String]) -> bool {
    fields.iter().any(|field| normal(field).eq(normal(name)))
}

fn normal(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase)
}

#[derive(Clone, Copy)]
enum Form {
    /// `"name": …`
    Json,
    /// `name=…` and `name: …`
    Plain,
}

/// Where a value begins that follows a name, and how it is written.
fn value_after(text: &str) -> Option<(usize, Form)> {
    // A name in a JSON text inside of a JSON text has a backslash before its quote.
    let unquoted = text.trim_start_matches(['"', '\\', '\'']);
    let is_quoted = unquoted.len() < text.len();
    let trimmed = unquoted.trim_start();
    let value = trimmed.strip_prefix([':', '='])?;
    let begin = text.len() - value.trim_start_matches([' ', '\t', '\n', '\r']).len();
    Some((begin, if is_quoted { Form::Json } else { Form::Plain }))
}

/// How long a value is, quotes and all.
fn length(text: &str, form: Form) -> usize {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => {
                quote = None;
                if depth == 0 {
                    return at + c.len_utf8();
                }
            }
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') if matches!(form, Form::Json) => depth += 1,
            (None, '}' | ']') if depth > 1 => depth -= 1,
            (None, '}' | ']') if depth == 1 => return at + 1,
            (None, '}' | ']' | ',') if depth == 0 && matches!(form, Form::Json) => return at,
            (None, '&' | '\n' | '\r') if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> Vec<String> {
        vec!["password".into(), "api_key".into()]
    }

    fn shown(text: &str) -> String {
        body(text.as_bytes(), &fields())
    }

    #[test]
    fn values_of_secret_fields_are_taken_out_and_all_else_stays() {
        for (text, safe) in [
            (r#"{"user":"a","password":"b"}"#, r#"{"user":"a","password":***}"#),
            (r#"{"password": "a\"b", "x": 1}"#, r#"{"password": ***, "x": 1}"#),
            (r#"{"Password":12,"x":1}"#, r#"{"Password":***,"x":1}"#),
            (r#"{"password":{"a":["b"]},"x":1}"#, r#"{"password":***,"x":1}"#),
            (r#"{"api-key":null}"#, r#"{"api-key":***}"#),
            (r#"{"apiKey":"x","apiKeys":"y"}"#, r#"{"apiKey":***,"apiKeys":"y"}"#),
            (r#"{"mypassword":"x"}"#, r#"{"mypassword":"x"}"#),
            ("user=a&password=b&x=1", "user=a&password=***&x=1"),
            ("password=b", "password=***"),
            ("password: b, c\nuser: a", "password: ***\nuser: a"),
            ("no password here", "no password here"),
        ] {
            assert_eq!(shown(text), safe, "{text}");
        }
    }

    #[test]
    fn a_value_that_is_cut_off_is_taken_out_to_the_end() {
        assert_eq!(shown(r#"{"x":1,"password":"sec"#), r#"{"x":1,"password":***"#);
        assert_eq!(shown(r#"{"password":{"a":"sec"#), r#"{"password":***"#);
        assert_eq!(shown(r#"{"password""#), r#"{"password""#);
    }

    #[test]
    fn a_json_text_within_a_json_text_is_looked_into() {
        let safe = shown(r#"{"inner":"{\"password\":\"secret\"}"}"#);
        assert!(!safe.contains("secret"), "{safe}");
    }

    #[test]
    fn only_text_is_readable() {
        for (content_type, is) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("application/x-www-form-urlencoded", true),
            ("text/plain", true),
            ("text/html", false),
            ("application/grpc", false),
            ("image/png", false),
            ("", false),
        ] {
            assert_eq!(is_readable(content_type), is, "{content_type}");
        }
    }

    proptest! {
        #[test]
        fn no_part_of_a_secret_is_shown(
            before in r#"[a-z:{,"]{0,12}"#,
            secret in "[A-Z]{4,12}",
            after in r#"[a-z:},"]{0,12}"#,
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = format!("{{\"x\":\"{before}\",\"password\":\"{secret}\",\"y\":\"{after}\"}}");
            let text = &whole[..cut.index(whole.len() + 1)];
            let shown = shown(text);
            prop_assert!(!shown.contains(|c: char| c.is_ascii_uppercase()), "{}", shown);
        }

        #[test]
        fn any_bytes_are_read(data: Vec<u8>) {
            body(&data, &fields());
        }
    }
}
