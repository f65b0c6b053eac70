//! HTML and SVG as values. Markup is written in this program; whatever comes from elsewhere is
//! text, and is escaped where it enters. Knows no page.
//!
//! Law: no text, whatever its bytes, adds an element or an attribute, ends one, or changes the
//! direction of what stands beside it.

use std::fmt::{self, Display, Write};

use super::link::Link;

/// Markup whose text is escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

/// Elements that have no content and no end.
const VOID: [&str; 7] = ["br", "col", "hr", "input", "link", "meta", "img"];

impl Html {
    /// Text, escaped.
    pub(crate) fn text(text: impl Display) -> Self {
        let mut html = Self::default();
        html.push_text(text);
        html
    }

    /// Markup that is written in this program.
    pub(crate) fn literal(markup: &'static str) -> Self {
        Self(markup.to_string())
    }

    /// Several, one after the other.
    pub(crate) fn all(parts: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        let mut html = Self::default();
        parts.into_iter().for_each(|part| html.push(part));
        html
    }

    /// Adds at the end.
    pub(crate) fn push(&mut self, html: impl Into<Self>) {
        self.0.push_str(&html.into().0);
    }

    /// The markup.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The markup.
    #[cfg(test)]
    pub(crate) fn into_string(self) -> String {
        self.0
    }

    fn push_text(&mut self, text: impl Display) {
        // Writing into a string does not fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
    }
}

impl From<Element> for Html {
    fn from(element: Element) -> Self {
        Self(element.closed())
    }
}

impl<T: Into<Self>> From<Option<T>> for Html {
    fn from(part: Option<T>) -> Self {
        part.map(Into::into).unwrap_or_default()
    }
}

impl From<&'static str> for Html {
    fn from(text: &'static str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Html {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// An element that is being written: attributes first, then content.
#[derive(Debug)]
pub(crate) struct Element {
    name: &'static str,
    written: Html,
    /// Whether its start tag still takes attributes.
    is_open: bool,
}

/// Begins an element.
pub(crate) fn el(name: &'static str) -> Element {
    Element { name, written: Html(format!("<{name}")), is_open: true }
}

impl Element {
    /// An attribute. Addresses have [`Element::href`] and its like, which take no text.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        debug_assert!(
            !matches!(name, "href" | "src" | "action" | "style") && !name.starts_with("on"),
            "{name} is no attribute for text"
        );
        self.push_attr(name, value);
        self
    }

    /// An attribute without a value, where it holds.
    pub(crate) fn flag(mut self, name: &'static str, holds: bool) -> Self {
        if holds {
            self.push_attr(name, "");
        }
        self
    }

    /// An attribute where there is a value.
    pub(crate) fn maybe(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Its class.
    pub(crate) fn class(self, class: impl Display) -> Self {
        self.attr("class", class)
    }

    /// Where it leads.
    pub(crate) fn href(mut self, link: &Link) -> Self {
        self.push_attr("href", link);
        self
    }

    /// Where what it shows is.
    pub(crate) fn src(mut self, link: &Link) -> Self {
        self.push_attr("src", link);
        self
    }

    /// Where a form leads.
    pub(crate) fn action(mut self, link: &Link) -> Self {
        self.push_attr("action", link);
        self
    }

    /// Text in it, escaped.
    pub(crate) fn text(mut self, text: impl Display) -> Self {
        self.begin_content();
        self.written.push_text(text);
        self
    }

    /// What is in it.
    pub(crate) fn child(mut self, child: impl Into<Html>) -> Self {
        self.begin_content();
        self.written.push(child);
        self
    }

    /// What is in it, one after the other.
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = impl Into<Html>>) -> Self {
        self.begin_content();
        children.into_iter().for_each(|child| self.written.push(child));
        self
    }

    fn push_attr(&mut self, name: &'static str, value: impl Display) {
        debug_assert!(self.is_open, "attributes of {} come before its content", self.name);
        self.written.0.push(' ');
        self.written.0.push_str(name);
        self.written.0.push_str("=\"");
        self.written.push_text(value);
        self.written.0.push('"');
    }

    fn begin_content(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.written.0.push('>');
        }
    }

    fn closed(mut self) -> String {
        self.begin_content();
        if !VOID.contains(&self.name) {
            let _ = write!(self.written.0, "</{}>", self.name);
        }
        self.written.0
    }
}

/// Escapes what is written through it, for text and for attributes in double quotes alike.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                hidden if is_hidden(hidden) => {
                    write!(self.0, "\u{2039}U+{:04X}\u{203a}", u32::from(hidden))?;
                }
                shown => self.0.push(shown),
            }
        }
        Ok(())
    }
}

/// Characters that nobody sees, or that turn what is beside them about.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_element_has_attributes_and_then_content() {
        let link = Link::to("/workloads").query("q", "a&b\"");
        let html = Html::from(
            el("p")
                .class("note")
                .flag("hidden", true)
                .flag("inert", false)
                .child(el("a").href(&link).text("1 < 2"))
                .child(el("br")),
        );
        insta::assert_snapshot!(
            html.as_str(),
            @r#"<p class="note" hidden=""><a href="/workloads?q=a%26b%22">1 &lt; 2</a><br></p>"#
        );
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let html = Html::text("pay\u{202e}load\0\u{200b}");
        assert_eq!(
            html.as_str(),
            "pay\u{2039}U+202E\u{203a}load\u{2039}U+0000\u{203a}\u{2039}U+200B\u{203a}"
        );
    }

    proptest! {
        #[test]
        fn no_text_becomes_markup(text in any::<String>(), value in any::<String>()) {
            let html = Html::from(el("td").attr("title", &value).text(&text)).into_string();
            let inside = html.strip_prefix("<td title=\"").and_then(|rest| rest.strip_suffix("</td>"));
            let (attribute, content) = inside.unwrap().split_once("\">").unwrap();
            for part in [attribute, content] {
                prop_assert!(!part.contains(['<', '>', '"', '\'']), "{part}");
                prop_assert!(!part.chars().any(|c| is_hidden(c) && c != '\n' && c != '\t'));
                let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
                let bare = entities.iter().fold(part.to_string(), |part, e| part.replace(e, ""));
                prop_assert!(!bare.contains('&'), "{part}");
            }
        }

        #[test]
        fn what_is_escaped_reads_as_it_was(text in "[ -~]*") {
            let html = Html::text(&text).into_string();
            let read = html
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&");
            prop_assert_eq!(read, text);
        }
    }
}
