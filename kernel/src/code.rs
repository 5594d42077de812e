//! A column in, a code for each row and the row where each code is met first out: `coded.coded`.
//!
//! Values are looked up by a hash whose start is drawn anew for each call: nobody can write values that collide.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::buffer::{check_size, Room, Shared, Strings};

/// Fill `codes`; return the rows of the distinct values, in their order, or None if they are more than `most`.
#[pyfunction]
pub fn code_strings(
    py: Python<'_>,
    offsets: Shared<i32>,
    data: Shared<u8>,
    valid: Option<Shared<u8>>,
    most: usize,
    mut codes: Room<i32>,
) -> PyResult<Option<Vec<u32>>> {
    let strings = Strings::new(offsets, data, valid)?;
    let texts = strings.texts();
    let codes = codes.as_mut_slice();
    check_size("the buffer for the codes", codes.len(), texts.len())?;
    let seed = random();
    Ok(py.detach(|| code(codes, most, |row| texts.get(row), |text| text.map_or(0, |text| hash_of_text(seed, text)))))
}

/// The same of numbers.
#[pyfunction]
pub fn code_numbers(
    py: Python<'_>,
    numbers: Shared<i64>,
    valid: Option<Shared<u8>>,
    most: usize,
    mut codes: Room<i32>,
) -> PyResult<Option<Vec<u32>>> {
    let (numbers, codes) = (numbers.as_slice(), codes.as_mut_slice());
    check_size("the buffer for the codes", codes.len(), numbers.len())?;
    let valid = valid.as_ref().map(Shared::as_slice);
    check_size("validity", valid.map_or(numbers.len(), <[u8]>::len), numbers.len())?;
    let number = |row: usize| valid.is_none_or(|valid| valid[row] != 0).then_some(numbers[row]);
    let seed = random();
    Ok(py.detach(|| code(codes, most, number, |number| number.map_or(0, |number| mixed(seed, number as u64)))))
}

/// Fill `numbers` with the place of each row's combination of codes among the distinct ones; return a row of each.
/// `counts` tells how many values the codes of each column have.
#[pyfunction]
pub fn number_combinations(
    py: Python<'_>,
    codes: Vec<Shared<i32>>,
    counts: Vec<u64>,
    mut numbers: Room<i32>,
) -> PyResult<Vec<u32>> {
    let numbers = numbers.as_mut_slice();
    check_size("the counts", counts.len(), codes.len())?;
    for (codes, &count) in codes.iter().zip(&counts) {
        check_size("a column's codes", codes.as_slice().len(), numbers.len())?;
        if codes.as_slice().iter().fold(false, |beyond, &code| beyond | (code < 0) | (code as u64 >= count)) {
            return Err(PyValueError::new_err("a code has no value"));
        }
    }
    let seed = random();
    Ok(py.detach(|| {
        let rows = numbers.len();
        let mut together = vec![0u64; rows];
        let mut size = 1u64;
        let distinct = |together: &[u64], numbers: &mut [i32]| {
            code(numbers, rows, |row| together[row], |number| mixed(seed, number)).unwrap_or_default()
        };
        for (codes, count) in codes.iter().zip(counts) {
            if size.checked_mul(count).is_none() {
                size = distinct(&together, numbers).len() as u64;
                together.iter_mut().zip(&*numbers).for_each(|(together, &number)| *together = number as u64);
            }
            size = size.saturating_mul(count);
            together.iter_mut().zip(codes.as_slice()).for_each(|(one, &code)| *one = *one * count + code as u64);
        }
        distinct(&together, numbers)
    }))
}

fn code<T: PartialEq + Copy>(
    codes: &mut [i32],
    most: usize,
    value: impl Fn(usize) -> T,
    hash: impl Fn(T) -> u64,
) -> Option<Vec<u32>> {
    const FREE: u32 = u32::MAX;
    let mask = (2 * most + 2).next_power_of_two() - 1;
    let mut table = vec![FREE; mask + 1];
    let mut firsts: Vec<u32> = Vec::new();
    for row in 0..codes.len() {
        let found = value(row);
        if row > 0 && found == value(row - 1) {
            codes[row] = codes[row - 1];
            continue;
        }
        let mut place = (hash(found) >> 32) as usize & mask;
        codes[row] = loop {
            let known = table[place];
            if known == FREE {
                if firsts.len() == most {
                    return None;
                }
                table[place] = firsts.len() as u32;
                firsts.push(row as u32);
                break table[place] as i32;
            }
            if value(firsts[known as usize] as usize) == found {
                break known as i32;
            }
            place = (place + 1) & mask;
        };
    }
    Some(firsts)
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Return both halves of a product of 128 bits, folded: each bit of the result depends on all of hash and value.
fn mixed(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value) * u128::from(hash.rotate_left(32) | 1);
    (product >> 64) as u64 ^ product as u64
}

fn hash_of_text(seed: u64, text: &[u8]) -> u64 {
    let mut chunks = text.chunks_exact(8);
    let mut hash = mixed(seed, text.len() as u64);
    for chunk in &mut chunks {
        hash = mixed(hash, u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    }
    let mut rest = [0; 8];
    rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mixed(hash, u64::from_le_bytes(rest))
}
