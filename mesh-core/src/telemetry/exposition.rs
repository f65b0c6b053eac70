//! Metrics as text in one of two formats, in pieces of bounded size, plain or gzipped.
//! Reads counters while they run; holds no lock while a piece is on its way.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::format::Format;
use super::metrics::{Family, Lines, MetricSet, Report};

/// A piece ends once it is this long; it is longer by at most one label set of one family.
pub const PIECE_BYTES: usize = 16 * 1024;

/// All metrics as text, piece by piece.
pub struct Exposition {
    format: Format,
    reports: std::vec::IntoIter<Arc<dyn Report>>,
    group: Option<PrintedGroup>,
    /// Whether the text has ended.
    is_over: bool,
}

struct PrintedGroup {
    format: Format,
    families: &'static [Family],
    sets: Vec<(Arc<str>, Arc<dyn MetricSet>)>,
    family: usize,
    set: usize,
}

impl Exposition {
    pub(super) fn new(reports: Vec<Arc<dyn Report>>, format: Format) -> Self {
        Self { format, reports: reports.into_iter(), group: None, is_over: false }
    }

    /// What to send as `content-type`.
    pub fn content_type(&self) -> &'static str {
        self.format.content_type()
    }

    /// The whole text at once: for tests and small readers.
    pub fn into_text(self) -> String {
        self.fold(String::new(), |text, piece| text + &String::from_utf8_lossy(&piece))
    }

    /// The same text compressed.
    pub fn gzip(self) -> GzipExposition {
        GzipExposition {
            text: self,
            // Text this repetitive gains little from more effort.
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }

    fn next_group(&mut self) -> Option<PrintedGroup> {
        loop {
            let report = self.reports.next()?;
            let sets = report.snapshot();
            if !sets.is_empty() {
                let (format, families) = (self.format, report.families());
                return Some(PrintedGroup { format, families, sets, family: 0, set: 0 });
            }
        }
    }
}

impl Iterator for Exposition {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut text = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        while text.len() < PIECE_BYTES {
            let Some(mut group) = self.group.take().or_else(|| self.next_group()) else {
                if !self.is_over {
                    text.push_str(self.format.end());
                    self.is_over = true;
                }
                break;
            };
            if group.print(&mut text) {
                self.group = Some(group);
            }
        }
        (!text.is_empty()).then(|| text.into())
    }
}

impl PrintedGroup {
    /// Prints up to the piece's end; whether there is more.
    fn print(&mut self, text: &mut String) -> bool {
        while let Some(family) = self.families.get(self.family) {
            if self.set == 0 {
                family.write_head(self.format, text);
            }
            while let Some((labels, metrics)) = self.sets.get(self.set) {
                let mut lines = Lines { out: text, format: self.format, family, labels };
                metrics.write(self.family, &mut lines);
                self.set += 1;
                if text.len() >= PIECE_BYTES {
                    break;
                }
            }
            if self.set < self.sets.len() {
                return true;
            }
            self.family += 1;
            self.set = 0;
            if text.len() >= PIECE_BYTES {
                return self.family < self.families.len();
            }
        }
        false
    }
}

/// All metrics as gzipped text, piece by piece.
pub struct GzipExposition {
    text: Exposition,
    /// `None` after the last piece.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for GzipExposition {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const TO_MEMORY: &str = "writing to memory does not fail";
        loop {
            let encoder = self.encoder.as_mut()?;
            let Some(piece) = self.text.next() else {
                let encoder = self.encoder.take()?;
                return Some(encoder.finish().expect(TO_MEMORY).into());
            };
            encoder.write_all(&piece).expect(TO_MEMORY);
            if encoder.get_ref().len() >= PIECE_BYTES {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
    }
}
