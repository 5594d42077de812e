//! Flows in, Community ID v1 (seed 0) out, thirty characters a row: `community_id.community_ids`.

use pyo3::prelude::*;
use sha1::digest::generic_array::GenericArray;

use crate::buffer::{check_size, Room, Shared};

const ICMP: i32 = 1;
const ICMP6: i32 = 58;
const ECHO: u16 = 8;
const LENGTH: usize = 30;
const START: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Fill `ids`. Addresses are 16 bytes a row; of two IPv4 addresses the first four count.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn community_ids(
    py: Python<'_>,
    source: Shared<u8>,
    destination: Shared<u8>,
    is_v6: Shared<u8>,
    protocol: Shared<i32>,
    source_port: Shared<i32>,
    destination_port: Shared<i32>,
    mut ids: Room<u8>,
) -> PyResult<()> {
    let rows = is_v6.as_slice().len();
    let (source, destination, is_v6) = (source.as_slice(), destination.as_slice(), is_v6.as_slice());
    let (protocol, ids) = (protocol.as_slice(), ids.as_mut_slice());
    let (source_port, destination_port) = (source_port.as_slice(), destination_port.as_slice());
    check_size("the sources", source.len(), 16 * rows)?;
    check_size("the destinations", destination.len(), 16 * rows)?;
    for numbers in [protocol, source_port, destination_port] {
        check_size("a column of numbers", numbers.len(), rows)?;
    }
    check_size("the buffer for the ids", ids.len(), LENGTH * rows)?;
    py.detach(|| {
        for (row, id) in ids.chunks_exact_mut(LENGTH).enumerate() {
            let size = if is_v6[row] == 1 { 16 } else { 4 };
            let block = message(
                &source[16 * row..16 * row + size],
                &destination[16 * row..16 * row + size],
                protocol[row],
                source_port[row] as u16,
                destination_port[row] as u16,
            );
            encode(&hash(block), id);
        }
    });
    Ok(())
}

/// Return a flow's only SHA-1 block: the seed, the lesser end's address, the other's, protocol, a zero byte, the ports.
fn message(source: &[u8], destination: &[u8], protocol: i32, source_port: u16, destination_port: u16) -> [u8; 64] {
    let ports = match protocol {
        6 | 17 | 132 => Some((source_port, destination_port)),
        ICMP => Some((0, ECHO)), // type and code are not logged: an echo reply, whose counterpart is an echo
        ICMP6 => Some((0, 0)),
        _ => None,
    };
    let (from_port, to_port) = ports.unwrap_or((0, 0));
    // Without its type, ICMPv6 is one-way: it has no other direction to be ordered with.
    let swap = protocol != ICMP6 && (source, from_port) > (destination, to_port);
    let ends = if swap {
        [(destination, to_port), (source, from_port)]
    } else {
        [(source, from_port), (destination, to_port)]
    };
    let mut block = [0u8; 64];
    let mut at = 2;
    for (address, _) in ends {
        block[at..at + address.len()].copy_from_slice(address);
        at += address.len();
    }
    block[at] = protocol as u8;
    at += 2;
    if ports.is_some() {
        for (_, port) in ends {
            block[at..at + 2].copy_from_slice(&port.to_be_bytes());
            at += 2;
        }
    }
    block[at] = 0x80;
    block[56..].copy_from_slice(&(8 * at as u64).to_be_bytes());
    block
}

fn hash(block: [u8; 64]) -> [u8; 21] {
    let mut state = START;
    sha1::compress(&mut state, &[GenericArray::from(block)]);
    let mut digest = [0u8; 21]; // and a zero, so that it is seven times three bytes
    for (place, word) in digest.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn encode(digest: &[u8; 21], id: &mut [u8]) {
    id[..2].copy_from_slice(b"1:");
    for (place, bytes) in id[2..].chunks_exact_mut(4).zip(digest.chunks_exact(3)) {
        let bits = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
        for (character, shift) in place.iter_mut().zip([18, 12, 6, 0]) {
            *character = ALPHABET[(bits >> shift & 63) as usize];
        }
    }
    id[LENGTH - 1] = b'=';
}
