//! Protocol detection: the verdict depends on the bytes, not on their segments.

use mesh_core::traffic::detect::{
    self, HTTP_BYTES_MAX, HttpDetector, HttpFound, Progress, TlsDetector, TlsFound,
};

use crate::input::segments;

/// TLS: one verdict in every segmentation, which later bytes do not change.
pub fn tls(input: &[u8]) {
    let (whole, segments) = segments(input);
    let at_once = TlsDetector::new().push(&whole);
    let mut detector = TlsDetector::new();
    let mut last = Progress::More;
    for segment in segments {
        let before = std::mem::replace(&mut last, detector.push(segment));
        assert!(before == Progress::More || before == last, "it was decided");
    }
    assert_eq!(last, at_once);
    let bytewise =
        whole.iter().fold((TlsDetector::new(), Progress::More), |(mut detector, _), byte| {
            let progress = detector.push(std::slice::from_ref(byte));
            (detector, progress)
        });
    assert_eq!(bytewise.1, at_once);
    if let Progress::Done(TlsFound::Sni(name)) = at_once {
        let name = name.as_str().to_ascii_lowercase();
        let lower = whole.to_ascii_lowercase();
        // A name may span records, whose headers then lie in it.
        let mut left = name.bytes();
        let mut wanted = left.next();
        for byte in lower {
            if Some(byte) == wanted {
                wanted = left.next();
            }
        }
        assert_eq!(wanted, None, "the name is not in the bytes");
    }
}

/// HTTP: one verdict in every segmentation, but for the exception that the detector states.
pub fn http(input: &[u8]) {
    let (whole, segments) = segments(input);
    let at_once = verdict(&[&whole]);
    let in_segments = verdict(&segments);
    // Fewer bytes than 14 that begin no registered method are not HTTP, whatever follows.
    let is_registered = [&b"GET "[..], b"POST ", b"PUT ", b"HEAD ", b"PRI * HTTP/2"]
        .iter()
        .any(|method| whole.starts_with(method));
    let short_word = first_cuts(&segments) && !is_registered;
    assert!(
        in_segments == at_once || (short_word && in_segments == HttpFound::NotHttp),
        "{in_segments:?} in segments, {at_once:?} at once"
    );
    if whole.len() >= HTTP_BYTES_MAX || whole.ends_with(b"\r\n") {
        assert_eq!(at_once, detect::http(&whole), "Linkerd's rule for one read");
    }
}

fn verdict(segments: &[&[u8]]) -> HttpFound {
    let mut detector = HttpDetector::new();
    let mut decided = None;
    for segment in segments {
        let progress = detector.push(segment);
        assert!(decided.is_none() || progress.done() == decided, "it was decided");
        decided = progress.done();
    }
    let end = detector.end();
    assert!(decided.is_none_or(|found| found == end));
    end
}

/// Whether some segment ends before the 14th byte.
fn first_cuts(segments: &[&[u8]]) -> bool {
    let mut at = 0;
    segments.iter().any(|segment| {
        at += segment.len();
        (1..14).contains(&at)
    })
}
