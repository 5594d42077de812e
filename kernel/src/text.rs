//! A block of whole lines in, the buffers of its columns out: what `text_rows` has Arrow's CSV reader do.
//!
//! It takes only what leaves no doubt: `None` for a block with any line that is not plainly in order.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A column's validity (a byte a row, or nothing if all rows have a value), offsets (of strings only) and data.
type Column<'py> = (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Bound<'py, PyBytes>);

struct Parsed {
    valid: Option<Vec<u8>>,
    offsets: Option<Vec<i32>>,
    data: Vec<u8>,
}

/// Return the columns of `rows` lines. `kinds` tells each column's: s (string), i (32-bit number), l (64-bit).
#[pyfunction]
pub fn parse_text<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
    rows: usize,
    kinds: &str,
) -> Option<Vec<Column<'py>>> {
    let data = data.as_bytes();
    let parsed = py.detach(|| parse(data, rows, kinds.as_bytes()))?;
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    Some(
        parsed
            .into_iter()
            .map(|column| {
                let offsets = column.offsets.map(|offsets| bytes(as_bytes(&offsets)));
                (column.valid.map(|valid| bytes(&valid)), offsets, bytes(&column.data))
            })
            .collect(),
    )
}

fn parse(data: &[u8], rows: usize, kinds: &[u8]) -> Option<Vec<Parsed>> {
    std::str::from_utf8(data).ok()?;
    let width = kinds.len();
    if rows * width > data.len() + 1 {
        return None; // a value has an end of its own: memory is asked for by what is there, not by what a header says
    }
    let mut ends = delimiters(data, rows * width)?;
    if ends.len() + 1 == rows * width && !data.ends_with(b"\n") {
        ends.push(data.len() as u32);
    }
    if width == 0 || ends.len() != rows * width || *ends.last()? as usize + 1 < data.len() {
        return None;
    }
    let is_line = |ends: &[u32]| match ends.split_last() {
        Some((&last, others)) => {
            data.get(last as usize).is_none_or(|&byte| byte == b'\n')
                && others.iter().all(|&end| data[end as usize] == b' ')
        }
        None => false,
    };
    if !ends.chunks_exact(width).all(is_line) {
        return None;
    }
    let value = |row: usize, column: usize| {
        let at = row * width + column;
        let begin = if at == 0 { 0 } else { ends[at - 1] as usize + 1 };
        &data[begin..ends[at] as usize]
    };
    kinds
        .iter()
        .enumerate()
        .map(|(column, kind)| {
            let values = (0..rows).map(|row| value(row, column));
            match kind {
                b's' => strings(values, rows),
                b'i' => numbers(values, rows, i32::MAX as u64, |number| (number as i32).to_ne_bytes()),
                _ => numbers(values, rows, i64::MAX as u64, |number| (number as i64).to_ne_bytes()),
            }
        })
        .collect()
}

/// Return where spaces and line ends stand, if they are no more than `most` and no other control character is there: a
/// carriage return ends a line too, and a tab may make a blank one.
fn delimiters(data: &[u8], most: usize) -> Option<Vec<u32>> {
    let mut found = Vec::with_capacity(most + 1);
    for (chunk, bytes) in data.chunks(64).enumerate() {
        let (mut ends, controls) = bits_of_delimiters(bytes);
        if controls & !ends != 0 || found.len() + ends.count_ones() as usize > most {
            return None;
        }
        while ends != 0 {
            found.push((64 * chunk) as u32 + ends.trailing_zeros());
            ends &= ends - 1;
        }
    }
    Some(found)
}

/// Return two bits for each of up to 64 bytes: whether it is a space or a line end, and whether a control character.
fn bits_of_delimiters(bytes: &[u8]) -> (u64, u64) {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() == 64 {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
        };
        let (mut ends, mut controls) = (0, 0);
        for (place, part) in bytes.chunks_exact(16).enumerate() {
            // SAFETY: every x86-64 processor has these instructions, and a part has the sixteen bytes that are read.
            let (end, control) = unsafe {
                let part = _mm_loadu_si128(part.as_ptr().cast());
                let space = _mm_cmpeq_epi8(part, _mm_set1_epi8(b' ' as i8));
                let newline = _mm_cmpeq_epi8(part, _mm_set1_epi8(b'\n' as i8));
                let control = _mm_cmpeq_epi8(_mm_min_epu8(part, _mm_set1_epi8(31)), part);
                (_mm_movemask_epi8(_mm_or_si128(space, newline)) as u32, _mm_movemask_epi8(control) as u32)
            };
            ends |= u64::from(end) << (16 * place);
            controls |= u64::from(control) << (16 * place);
        }
        return (ends, controls);
    }
    bytes.iter().enumerate().fold((0, 0), |(ends, controls), (place, &byte)| {
        let is_end = byte == b' ' || byte == b'\n';
        (ends | u64::from(is_end) << place, controls | u64::from(byte < 32) << place)
    })
}

fn strings<'a>(values: impl Iterator<Item = &'a [u8]>, rows: usize) -> Option<Parsed> {
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut data = Vec::with_capacity(20 * rows);
    let mut valid = Validity { rows, bytes: None };
    offsets.push(0);
    for (row, value) in values.enumerate() {
        match value {
            b"" => return None,
            b"-" => valid.lacks(row),
            _ => data.extend_from_slice(value),
        }
        offsets.push(data.len() as i32);
    }
    Some(Parsed { valid: valid.bytes, offsets: Some(offsets), data })
}

fn numbers<'a, const WIDTH: usize>(
    values: impl Iterator<Item = &'a [u8]>,
    rows: usize,
    most: u64,
    store: impl Fn(u64) -> [u8; WIDTH],
) -> Option<Parsed> {
    let mut data = Vec::with_capacity(WIDTH * rows);
    let mut valid = Validity { rows, bytes: None };
    for (row, value) in values.enumerate() {
        let number = if value == b"-" {
            valid.lacks(row);
            0
        } else {
            number(value).filter(|&number| number <= most)?
        };
        data.extend_from_slice(&store(number));
    }
    Some(Parsed { valid: valid.bytes, offsets: None, data })
}

/// Return the number that one to nineteen decimal digits are.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| 10 * number + u64::from(digit))
    })
}

/// A byte a row, made only once a row lacks its value.
struct Validity {
    rows: usize,
    bytes: Option<Vec<u8>>,
}

impl Validity {
    fn lacks(&mut self, row: usize) {
        let rows = self.rows;
        self.bytes.get_or_insert_with(|| vec![1; rows])[row] = 0;
    }
}

fn as_bytes(numbers: &[i32]) -> &[u8] {
    // SAFETY: every number is four bytes, and bytes may lie anywhere.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), 4 * numbers.len()) }
}
