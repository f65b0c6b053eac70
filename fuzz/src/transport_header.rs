//! The transport header: `read` takes exactly its bytes, and `encode` undoes it.

use mesh_core::wire::transport_header as header;
use tokio::io::AsyncReadExt;

use crate::input::{Stream, run, segments};

/// Preface and length of the message.
const START_BYTES: usize = 27;

/// Any stream.
pub fn read(input: &[u8]) {
    let (whole, segments) = segments(input);
    let mut io = Stream::boxed(&segments);
    let Ok(found) = run(header::read(&mut io)) else {
        return;
    };
    let length = whole[23..START_BYTES].iter();
    let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
    let mut rest = Vec::new();
    run(io.read_to_end(&mut rest)).expect("such streams do not fail");
    assert_eq!(rest, &whole[START_BYTES + length..]);

    let written = header::encode(&found);
    let again = run(header::read(&mut Stream::boxed(&[&written])));
    assert_eq!(again.expect("what is written can be read"), found);
}
