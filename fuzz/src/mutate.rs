//! Damage to valid inputs: most of an input stays what it was, so that it gets past the first checks.

/// Numbers that look random and are a function of a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound that is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// One of a list that is not empty.
    pub fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Random bytes, fewer than `bound`.
    pub fn bytes(&mut self, bound: usize) -> Vec<u8> {
        let length = self.below(bound);
        (0..length).map(|_| self.number() as u8).collect()
    }
}

/// What parsers stumble over: ends of lines, framing, numbers at their limits.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Connection: close, upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: a\r\n",
    b"HTTP/1.0",
    b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x16\x03\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Longest mutated input.
const BYTES_MAX: usize = 64 * 1024;

/// Damages an input in one to eight places.
pub fn mutate(input: &mut Vec<u8>, draw: &mut Draw) {
    for _ in 0..1 + draw.below(8) {
        let at = draw.below(input.len() + 1);
        let length = draw.below(16.min(input.len() - at) + 1);
        match draw.below(8) {
            0 => input.truncate(at),
            1 => {
                let token = *draw.of(TOKENS);
                drop(input.splice(at..at, token.iter().copied()));
            }
            2 => {
                let token = *draw.of(TOKENS);
                drop(input.splice(at..at + length, token.iter().copied()));
            }
            3 => drop(input.drain(at..at + length)),
            4 => {
                let again = input[at..].to_vec();
                input.extend_from_slice(&again);
            }
            _ if at == input.len() => input.push(draw.number() as u8),
            5 => input[at] = draw.number() as u8,
            6 => input[at] ^= 1 << draw.below(8),
            _ => input[at] = input[at].wrapping_add(1),
        }
        input.truncate(BYTES_MAX);
    }
}
