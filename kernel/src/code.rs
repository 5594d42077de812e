//! A column in, a code for each row and the row where each code is met first out: `coded.coded`.
//!
//! Values are looked up by a hash whose start is drawn anew for each call: nobody can write values that collide.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::buffer::{check_places, check_size, Room, Shared, Strings};

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
        if count > 1 << 31 {
            return Err(PyValueError::new_err("a column has more values than there are codes"));
        }
        check_places(codes.as_slice(), count as usize)?;
    }
    if let ([one, other], [ones, others]) = (&codes[..], &counts[..]) {
        let (one, other) = ((one.as_slice(), *ones as usize), (other.as_slice(), *others as usize));
        return Ok(py.detach(|| number_pairs(one, other, numbers.len(), numbers).unwrap_or_default()));
    }
    let seed = random();
    Ok(py.detach(|| {
        let small = bits_of(4 * numbers.len() as u64);
        let mut together = vec![0u64; numbers.len()];
        let mut used = 0;
        let distinct = |together: &[u64], used: u32, numbers: &mut [i32]| {
            let rows = together.len();
            if used <= small {
                return code_small(numbers, rows, 1 << used, together.iter().map(|&one| one as usize))
                    .unwrap_or_default();
            }
            code(numbers, rows, |row| together[row], |number| mixed(seed, number)).unwrap_or_default()
        };
        for (codes, count) in codes.iter().zip(counts) {
            let bits = bits_of(count);
            // Of all combinations few occur: told apart in between, they stay so few that each has a place of its own.
            if used + bits > u64::BITS || used <= small && used + bits > small {
                used = bits_of(distinct(&together, used, numbers).len() as u64);
                together.iter_mut().zip(&*numbers).for_each(|(together, &number)| *together = number as u64);
            }
            used += bits;
            together.iter_mut().zip(codes.as_slice()).for_each(|(one, &code)| *one = *one << bits | code as u64);
        }
        distinct(&together, used, numbers)
    }))
}

/// The bits that so many numbers, from 0 on, take.
fn bits_of(count: u64) -> u32 {
    u64::BITS - count.saturating_sub(1).leading_zeros()
}

/// What stands in a table of numbers where there is none.
pub const FREE: u32 = u32::MAX;

/// Fill `numbers` with the place of each row's pair of codes among the distinct pairs; return a row of each, or None if
/// they are more than `most`. Of each column there are its codes, and how many values they have.
pub fn number_pairs(
    one: (&[i32], usize),
    other: (&[i32], usize),
    most: usize,
    numbers: &mut [i32],
) -> Option<Vec<u32>> {
    let pairs = one.0.iter().zip(other.0).map(|(&one, &code)| one as usize * other.1 + code as usize);
    if one.1 * other.1 <= 4 * numbers.len() {
        return code_small(numbers, most, one.1 * other.1, pairs);
    }
    let (pairs, seed): (Vec<usize>, _) = (pairs.collect(), random());
    code(numbers, most, |row| pairs[row], |pair| mixed(seed, pair as u64))
}

/// As `code`, of values below `size`: each has a place of its own.
pub fn code_small(
    codes: &mut [i32],
    most: usize,
    size: usize,
    values: impl Iterator<Item = usize>,
) -> Option<Vec<u32>> {
    let mut table = vec![FREE; size];
    let mut firsts: Vec<u32> = Vec::new();
    for ((row, code), value) in codes.iter_mut().enumerate().zip(values) {
        let known = &mut table[value];
        if *known == FREE {
            if firsts.len() == most {
                return None;
            }
            *known = firsts.len() as u32;
            firsts.push(row as u32);
        }
        *code = *known as i32;
    }
    Some(firsts)
}

fn code<T: PartialEq + Copy>(
    codes: &mut [i32],
    most: usize,
    value: impl Fn(usize) -> T,
    hash: impl Fn(T) -> u64,
) -> Option<Vec<u32>> {
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

pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Return both halves of a product of 128 bits, folded: each bit of the result depends on all of hash and value.
pub fn mixed(hash: u64, value: u64) -> u64 {
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
