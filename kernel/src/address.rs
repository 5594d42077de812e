//! Addresses as text in, their bytes out: `addresses.parse_addresses`.

use std::net::Ipv6Addr;

use pyo3::prelude::*;

use crate::buffer::{check_size, Room, Shared, Strings};

/// Fill `packed` (16 bytes a row, an IPv4 address in the first four), `is_v6` and `valid`, all of them zeros before.
#[pyfunction]
pub fn parse_addresses(
    py: Python<'_>,
    offsets: Shared<i32>,
    data: Shared<u8>,
    there: Option<Shared<u8>>,
    mut packed: Room<u8>,
    mut is_v6: Room<u8>,
    mut valid: Room<u8>,
) -> PyResult<()> {
    let strings = Strings::new(offsets, data, there)?;
    let texts = strings.texts();
    let (packed, is_v6, valid) = (packed.as_mut_slice(), is_v6.as_mut_slice(), valid.as_mut_slice());
    check_size("the packed addresses", packed.len(), 16 * texts.len())?;
    check_size("the families", is_v6.len(), texts.len())?;
    check_size("the validity", valid.len(), texts.len())?;
    py.detach(|| {
        for (row, text) in (0..texts.len()).filter_map(|row| Some((row, texts.get(row)?))) {
            let place = &mut packed[16 * row..16 * row + 16];
            if let Some(quads) = parse_v4(text) {
                place[..4].copy_from_slice(&quads);
                valid[row] = 1;
            } else if text.contains(&b':') {
                is_v6[row] = 1;
                if let Some(address) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Ipv6Addr>().ok()) {
                    place.copy_from_slice(&address.octets());
                    valid[row] = 1;
                }
            }
        }
    });
    Ok(())
}

/// Return the four numbers of one to three digits, without leading zeros, that a dotted address is made of.
fn parse_v4(text: &[u8]) -> Option<[u8; 4]> {
    let mut quads = [0u8; 4];
    let (mut place, mut value, mut digits) = (0, 0u32, 0);
    if text.len() > 15 {
        return None;
    }
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            if digits > 0 && value == 0 {
                return None;
            }
            value = 10 * value + u32::from(digit);
            digits += 1;
            if value > 255 {
                return None;
            }
        } else if byte == b'.' && digits > 0 && place < 3 {
            quads[place] = value as u8;
            place += 1;
            (value, digits) = (0, 0);
        } else {
            return None;
        }
    }
    if place != 3 || digits == 0 {
        return None;
    }
    quads[3] = value as u8;
    Some(quads)
}
