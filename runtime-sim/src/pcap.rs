//! Captures of a run's packets as pcap files, which Wireshark, tshark and tcpdump open: link type RAW,
//! times in nanoseconds of the run's virtual wall clock, IP and TCP headers with their checksums.
//!
//! Law: a packet stands where its sender put it on the wire, those that were lost as well. At most
//! [`PACKETS_MAX`] packets are kept, the first ones, and how many more there were is told.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use mesh_core::time::{Timestamp, WallTime};

use crate::lock;
use crate::trace::{Capture, Flags, Packet, START};

/// Packets kept: they share their bytes with what the run itself holds.
pub const PACKETS_MAX: usize = 2_000_000;

/// Times in nanoseconds, in this machine's order of bytes: little endian here.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Packets begin with their IP header.
const LINKTYPE_RAW: u32 = 101;
const SNAPLEN: u32 = 262_144;
const TCP: u8 = 6;
const HOPS: u8 = 64;
const TCP_HEADER_BYTES: usize = 20;
const WINDOW: u16 = u16::MAX;

/// The packets of a run. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Packets(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    packets: Vec<Packet>,
    left_out: u64,
}

impl Packets {
    /// What keeps packets here.
    pub fn capture(&self) -> Capture {
        let kept = self.0.clone();
        Arc::new(move |packet| {
            let mut kept = lock(&kept);
            match kept.packets.len() < PACKETS_MAX {
                true => kept.packets.push(packet.clone()),
                false => kept.left_out += 1,
            }
        })
    }

    /// The packets in order of time, and how many more there were.
    pub fn take(&self) -> (Vec<Packet>, u64) {
        let mut kept = std::mem::take(&mut *lock(&self.0));
        kept.packets.sort_by_key(|packet| packet.at);
        (kept.packets, kept.left_out)
    }
}

/// Writes packets as a pcap file. `start` is the wall clock when the run began; 2026-01-01T00:00:00Z
/// where nothing is said.
///
/// # Errors
/// Of `file`.
pub fn write(packets: &[Packet], start: Option<WallTime>, file: &mut impl Write) -> io::Result<()> {
    file.write_all(&MAGIC.to_le_bytes())?;
    file.write_all(&2u16.to_le_bytes())?;
    file.write_all(&4u16.to_le_bytes())?;
    file.write_all(&[0; 8])?;
    file.write_all(&SNAPLEN.to_le_bytes())?;
    file.write_all(&LINKTYPE_RAW.to_le_bytes())?;
    let start = start.unwrap_or(START).as_duration();
    for (number, packet) in packets.iter().enumerate() {
        let at = start + packet.at.since(Timestamp::ZERO);
        let bytes = ip_packet(packet, number as u16);
        let length = bytes.len() as u32;
        for field in [at.as_secs() as u32, at.subsec_nanos(), length, length] {
            file.write_all(&field.to_le_bytes())?;
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn ip_packet(packet: &Packet, number: u16) -> Vec<u8> {
    let mut tcp = tcp_segment(packet);
    let (from, to) = (packet.from.ip(), packet.to.ip());
    let length = tcp.len() as u16;
    let (mut bytes, pseudo) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend((length + 20).to_be_bytes());
            header.extend(number.to_be_bytes());
            // May not be fragmented.
            header.extend([0x40, 0, HOPS, TCP, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let mut pseudo = [from.octets(), to.octets()].concat();
            pseudo.extend([0, TCP]);
            pseudo.extend(length.to_be_bytes());
            (header, pseudo)
        }
        (from, to) => {
            let (from, to) = (v6(from).octets(), v6(to).octets());
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([TCP, HOPS]);
            header.extend([from, to].concat());
            let mut pseudo = [from, to].concat();
            pseudo.extend(u32::from(length).to_be_bytes());
            pseudo.extend([0, 0, 0, TCP]);
            (header, pseudo)
        }
    };
    let sum = checksum(&[&pseudo, &tcp]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(tcp);
    bytes
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// A segment whose checksum is still zero.
fn tcp_segment(packet: &Packet) -> Vec<u8> {
    let mut segment = Vec::with_capacity(TCP_HEADER_BYTES + packet.payload.len());
    let port = |address: SocketAddr| address.port().to_be_bytes();
    segment.extend(port(packet.from));
    segment.extend(port(packet.to));
    segment.extend(packet.sequence.to_be_bytes());
    let acknowledges = if packet.flags.ack { packet.acknowledges } else { 0 };
    segment.extend(acknowledges.to_be_bytes());
    segment.extend([(TCP_HEADER_BYTES as u8 / 4) << 4, bits(packet.flags)]);
    segment.extend(WINDOW.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend_from_slice(&packet.payload);
    segment
}

fn bits(flags: Flags) -> u8 {
    let Flags { syn, ack, psh, fin, rst } = flags;
    [fin, syn, rst, psh, ack].iter().enumerate().fold(0, |bits, (n, on)| bits | u8::from(*on) << n)
}

/// The Internet's checksum (RFC 1071) over parts, each of which but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from))
        .fold(0, |sum, word| {
            let sum = sum + word;
            (sum & 0xffff) + (sum >> 16)
        });
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn packet(from: &str, to: &str, flags: Flags, payload: &'static [u8]) -> Packet {
        Packet {
            at: Timestamp::from_nanos(1_500_000_007),
            from: from.parse().expect("an address"),
            to: to.parse().expect("an address"),
            flags,
            sequence: 0x0102_0304,
            acknowledges: 77,
            payload: Bytes::from_static(payload),
            lost: false,
        }
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    /// The file's packets: seconds, nanoseconds, bytes.
    fn read(file: &[u8]) -> Vec<(u32, u32, &[u8])> {
        assert_eq!((u32_at(file, 0), u32_at(file, 20)), (MAGIC, LINKTYPE_RAW));
        let (mut at, mut packets) = (24, Vec::new());
        while at < file.len() {
            let length = u32_at(file, at + 8) as usize;
            assert_eq!(length, u32_at(file, at + 12) as usize);
            packets.push((u32_at(file, at), u32_at(file, at + 4), &file[at + 16..][..length]));
            at += 16 + length;
        }
        packets
    }

    fn written(packets: &[Packet]) -> Vec<u8> {
        let mut file = Vec::new();
        write(packets, None, &mut file).expect("memory can be written");
        file
    }

    #[test]
    fn what_is_written_is_read_back_with_its_headers_and_valid_checksums() {
        let flags = Flags { ack: true, psh: true, ..Flags::default() };
        let file = written(&[packet("10.1.0.1:4143", "10.1.0.2:50000", flags, b"odd")]);
        let [(secs, nanos, bytes)] = read(&file)[..] else { panic!("one packet") };
        assert_eq!((u64::from(secs), nanos), (START.as_unix_secs() + 1, 500_000_007));
        let (ip, tcp) = bytes.split_at(20);
        assert_eq!(checksum(&[ip]), 0, "the header's sum with its checksum");
        assert_eq!((ip[0], ip[9], u16::from_be_bytes([ip[2], ip[3]])), (0x45, TCP, 43));
        assert_eq!((&ip[12..16], &ip[16..20]), (&[10, 1, 0, 1][..], &[10, 1, 0, 2][..]));
        let pseudo = [&ip[12..20], &[0, TCP, 0, tcp.len() as u8]].concat();
        assert_eq!(checksum(&[&pseudo, tcp]), 0, "the segment's sum with its checksum");
        assert_eq!(u16::from_be_bytes([tcp[0], tcp[1]]), 4143);
        assert_eq!(tcp[4..12], [1, 2, 3, 4, 0, 0, 0, 77]);
        assert_eq!((tcp[13], &tcp[20..]), (0b01_1000, &b"odd"[..]));
    }

    #[test]
    fn version_6_has_its_header_and_its_checksum() {
        let flags = Flags { syn: true, ..Flags::default() };
        let file = written(&[packet("[fd00::1]:1", "[fd00::2]:2", flags, b"")]);
        let [(_, _, bytes)] = read(&file)[..] else { panic!("one packet") };
        let (ip, tcp) = bytes.split_at(40);
        assert_eq!((ip[0], ip[6], ip[4..6].to_vec()), (0x60, TCP, vec![0, 20]));
        let pseudo = [&ip[8..40], &[0, 0, 0, 20, 0, 0, 0, TCP]].concat();
        assert_eq!(checksum(&[&pseudo, tcp]), 0);
        assert_eq!((tcp[13], &tcp[8..12]), (0b10, &[0; 4][..]), "a SYN acknowledges nothing");
    }

    #[test]
    fn flags_have_their_bits() {
        let only = Flags::default();
        let all = [
            (Flags { fin: true, ..only }, 1),
            (Flags { syn: true, ..only }, 2),
            (Flags { rst: true, ..only }, 4),
            (Flags { psh: true, ..only }, 8),
            (Flags { ack: true, ..only }, 16),
        ];
        for (flags, expected) in all {
            assert_eq!(bits(flags), expected, "{flags:?}");
        }
    }

    #[test]
    fn packets_are_kept_in_order_of_time() {
        let packets = Packets::default();
        let capture = packets.capture();
        for nanos in [2, 1, 3] {
            let flags = Flags::default();
            let at = Timestamp::from_nanos(nanos);
            capture(&Packet { at, ..packet("10.1.0.1:1", "10.1.0.2:2", flags, b"") });
        }
        let (kept, left_out) = packets.take();
        let times: Vec<_> = kept.iter().map(|packet| packet.at.as_nanos()).collect();
        assert_eq!((times, left_out), (vec![1, 2, 3], 0));
    }
}
