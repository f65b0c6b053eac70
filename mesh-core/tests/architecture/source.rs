//! A source file, reduced to what the rules speak of: its module, its code without comments,
//! texts and tests, and the paths that the code names.

use std::path::Path;

const TEST: &str = "#[cfg(test)]";

/// One file of the crate.
pub(crate) struct Source {
    /// Its path, for messages.
    pub(crate) name: String,
    /// Its module, from the crate's root; empty for the root itself.
    pub(crate) module: Vec<String>,
    /// Its code; everything else is blank, so that places stay as they are.
    pub(crate) code: String,
    /// Modules that it declares for tests alone.
    pub(crate) test_modules: Vec<Vec<String>>,
}

impl Source {
    /// The file at `path` under `root`, which reads `text`.
    pub(crate) fn read(root: &Path, path: &Path, text: &str) -> Self {
        let relative = path.strip_prefix(root).expect("a file under the root");
        let mut module: Vec<String> = relative
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        Self::new(format!("mesh-core/src/{}", relative.display()), module, text)
    }

    /// A file that only a test has seen.
    pub(crate) fn planted(module: &str, text: &str) -> Self {
        let module = module.split("::").map(String::from).collect();
        Self::new("planted.rs".to_string(), module, text)
    }

    fn new(name: String, module: Vec<String>, text: &str) -> Self {
        let mut code = without_comments_and_texts(text);
        let declared = blank_tests(&mut code);
        let path = |declared: String| [module.as_slice(), &[declared]].concat();
        let test_modules = declared.into_iter().map(path).collect();
        Self { name, module, code, test_modules }
    }

    /// The line that the byte at `place` is on.
    pub(crate) fn line(&self, place: usize) -> usize {
        self.code[..place].matches('\n').count() + 1
    }

    /// Every path that the code names, in a `use` or in place, from the crate's root, with its
    /// line.
    pub(crate) fn imports(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut place = 0;
        while let Some(start) = self.code[place..].find(is_word).map(|at| place + at) {
            let length = self.code[start..].find(|c| !is_word(c));
            let end = length.map_or(self.code.len(), |length| start + length);
            let word = &self.code[start..end];
            place = end;
            if word == "use" {
                let statement = self.code[end..].split(';').next().expect("split gives one");
                let mut paths = Vec::new();
                expand("", statement, &mut paths);
                found.extend(paths.into_iter().map(|path| (self.line(start), path)));
                place = end + statement.len();
            } else if word.contains("::") {
                found.push((self.line(start), word.trim_start_matches("::").to_string()));
            }
        }
        found.into_iter().map(|(line, path)| (line, self.absolute(&path))).collect()
    }

    /// Rewrites `super::` and `self::` to a path from the crate's root.
    fn absolute(&self, path: &str) -> String {
        let mut at = self.module.len();
        let mut rest = path;
        loop {
            if let Some(above) = rest.strip_prefix("super::") {
                at = at.saturating_sub(1);
                rest = above;
            } else if let Some(here) = rest.strip_prefix("self::") {
                rest = here;
            } else {
                break;
            }
        }
        if rest.len() == path.len() {
            return path.to_string();
        }
        let above = self.module[..at].iter().map(String::as_str);
        ["crate"].into_iter().chain(above).chain([rest]).collect::<Vec<_>>().join("::")
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == ':'
}

/// Expands `a::{b, c::d}` into `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().expect("split gives one").trim();
        paths.push(format!("{prefix}{path}"));
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let inside = inside.rsplit_once('}').map_or(inside, |(inside, _)| inside);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[start..at].trim().is_empty() {
                    expand(&prefix, inside[start..at].trim(), paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The text with comments, string and character literals blank; line ends stay.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        let length = skipped.unwrap_or(c.len_utf8());
        if skipped.is_some() {
            code.extend(rest[..length].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        } else {
            code.push(c);
        }
        rest = &rest[length..];
    }
    code
}

/// The length of the comment or literal that `rest` opens with.
fn literal_or_comment(rest: &str, before: Option<char>) -> Option<usize> {
    let until = |end: &str| rest.find(end).unwrap_or(rest.len());
    if rest.starts_with("//") {
        return Some(until("\n"));
    }
    if rest.starts_with("/*") {
        return Some((until("*/") + 2).min(rest.len()));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if rest.starts_with('r') && !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        let hashes: String = rest[1..].chars().take_while(|c| *c == '#').collect();
        let open = 1 + hashes.len();
        if rest[open..].starts_with('"') {
            let close = format!("\"{hashes}");
            let body = &rest[open + 1..];
            let end = body.find(&close).map_or(body.len(), |at| at + close.len());
            return Some(open + 1 + end);
        }
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut inside = inside.chars();
        let (first, second) = (inside.next(), inside.next());
        // A character, not a lifetime.
        if first == Some('\\') || second == Some('\'') {
            return Some(quoted(rest, '\''));
        }
    }
    None
}

/// The length of a literal between two `quote`s.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Blanks the items that are there for tests alone, and names those that are modules in files
/// of their own.
fn blank_tests(code: &mut String) -> Vec<String> {
    let mut modules = Vec::new();
    while let Some(start) = code.find(TEST) {
        let head = start + TEST.len();
        let end = head + item_length(&code[head..]);
        let declared = code[head..end].strip_suffix(';').and_then(|item| item.split_once("mod "));
        modules.extend(declared.map(|(_, name)| name.trim().to_string()));
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    modules
}

/// The length of the item that `code` opens with: to its semicolon or its closing brace.
fn item_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}
