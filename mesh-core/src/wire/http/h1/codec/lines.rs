//! The end of a section of lines (a head, or trailers) and its fields. Strict where parsers differ:
//! lines end in CRLF alone, are not folded, and hold no control character.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Header;

use super::{HEADERS_MAX, Refusal};

/// Finds the empty line that ends a section, over any number of reads, looking at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Bytes of the section known to be good and not its end.
    seen: u32,
}

impl Scan {
    /// The section's length with its empty line, once `bytes` holds all of it.
    ///
    /// # Errors
    /// [`Refusal`], `HeadTooLarge` where it is not within `bytes_max`.
    pub(super) fn end(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Refusal> {
        let mut at = self.seen as usize;
        while at < bytes.len() {
            let byte = bytes[at];
            if (byte >= b' ' && byte != 0x7f) || byte == b'\t' {
                at += 1;
                continue;
            }
            match byte {
                b'\r' => {}
                b'\n' => return Err(Refusal::BareLf),
                control => return Err(Refusal::Control(control)),
            }
            match bytes.get(at + 1) {
                Some(b'\n') => {}
                Some(_) => return Err(Refusal::BareCr),
                None => break,
            }
            if at == 0 || bytes[..at].ends_with(b"\r\n") {
                let end = at + 2;
                return if end > bytes_max { Err(Refusal::HeadTooLarge) } else { Ok(Some(end)) };
            }
            match bytes.get(at + 2) {
                Some(b' ' | b'\t') => return Err(Refusal::ObsFold),
                Some(_) => at += 2,
                None => break,
            }
        }
        self.more(at, bytes.len(), bytes_max)
    }

    fn more(&mut self, at: usize, held: usize, max: usize) -> Result<Option<usize>, Refusal> {
        if held >= max {
            return Err(Refusal::HeadTooLarge);
        }
        // Heads are bounded far below 4 GiB.
        self.seen = u32::try_from(at).map_err(|_| Refusal::HeadTooLarge)?;
        Ok(None)
    }
}

/// Room for parsed fields, on the stack and never initialised whole.
pub(super) type Slots<'a> = [MaybeUninit<Header<'a>>; HEADERS_MAX];

/// Empty [`Slots`].
pub(super) const fn slots<'a>() -> Slots<'a> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// Room for fields that are added on a message's way, so that the map need not be moved for them.
const FIELDS_ADDED: usize = 2;

/// Parsed fields as a map whose values share `section`'s memory.
pub(super) fn header_map(section: &Bytes, fields: &[Header<'_>]) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::with_capacity(fields.len() + FIELDS_ADDED);
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value))
            .map_err(|_| Refusal::Control(0))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// What is wrong with a section that httparse refused with `error`.
pub(super) fn refusal(section: &[u8], error: httparse::Error, first_line: Refusal) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::HeaderName if names_with_whitespace(section) => {
            Refusal::WhitespaceBeforeColon
        }
        httparse::Error::HeaderName => Refusal::HeaderName,
        // The scan has found every control character that httparse would.
        httparse::Error::HeaderValue => Refusal::Control(0),
        httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token
        | httparse::Error::Version => first_line,
    }
}

/// Whether some field line has whitespace right before its first colon. For the text of
/// an error only, so it looks at the first line too.
fn names_with_whitespace(section: &[u8]) -> bool {
    section.split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.len() < line.len() && name.ends_with(b" ") | name.ends_with(b"\t")
    })
}
