//! A block of whole lines in, the buffers of its columns out: what `text_rows` has Arrow's CSV reader do.
//!
//! It takes only what leaves no doubt: `None` for a block with any line that is not plainly in order.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::join::{copy, BLOCK};

/// A column's validity (a byte a row, or nothing if all rows have a value), offsets (of strings only) and data.
type Column<'py> = (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Bound<'py, PyBytes>);

/// Rows whose values are taken column by column before the next ones follow, so that both stay in the cache.
const ROWS_AT_ONCE: usize = 512;

/// Return the columns of a block's lines and how many those are. `kinds` tells each column's: s (string), i (32-bit
/// number), l (64-bit).
#[pyfunction]
pub fn parse_text<'py>(py: Python<'py>, data: &Bound<'py, PyBytes>, kinds: &str) -> Option<(usize, Vec<Column<'py>>)> {
    let data = data.as_bytes();
    let (rows, parsed) = py.detach(|| parse(data, kinds.as_bytes()))?;
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    let columns = parsed.into_iter().map(|column| {
        let valid = (column.lacks).then(|| bytes(&column.valid));
        let offsets = (column.kind == b's').then(|| bytes(as_bytes(&column.offsets)));
        (valid, offsets, bytes(&column.data[..column.size]))
    });
    Some((rows, columns.collect()))
}

fn parse(data: &[u8], kinds: &[u8]) -> Option<(usize, Vec<Values>)> {
    std::str::from_utf8(data).ok()?;
    let width = kinds.len();
    let (mut ends, lines) = delimiters(data)?;
    let rows = lines + usize::from(!data.ends_with(b"\n"));
    if !data.ends_with(b"\n") {
        ends.push(data.len() as u32);
    }
    // A value has an end of its own: memory is asked for by what is there, not by what a header says.
    if width == 0 || rows == 0 || ends.len() != rows.checked_mul(width)? {
        return None;
    }
    let is_line = |ends: &[u32]| match ends.split_last() {
        Some((&last, others)) => {
            data.get(last as usize).is_none_or(|&byte| byte == b'\n')
                && others.iter().all(|&end| data[end as usize] == b' ')
        }
        None => false,
    };
    let mut columns: Vec<_> = kinds.iter().map(|&kind| Values::new(kind, rows)).collect();
    let mut begin = 0;
    for ends in ends.chunks(ROWS_AT_ONCE * width) {
        if !ends.chunks_exact(width).all(is_line) {
            return None;
        }
        for (place, column) in columns.iter_mut().enumerate() {
            column.add(data, begin, ends, place, width)?;
        }
        begin = *ends.last()? as usize + 1;
    }
    Some((rows, columns))
}

/// A column that is being read: of strings their text and where each ends, of numbers their bytes.
struct Values {
    kind: u8,
    data: Vec<u8>,
    size: usize,
    offsets: Vec<i32>,
    valid: Vec<u8>,
    lacks: bool,
}

impl Values {
    fn new(kind: u8, rows: usize) -> Self {
        let (offsets, width) = match kind {
            b's' => (rows + 1, 0),
            b'i' => (0, 4),
            _ => (0, 8),
        };
        let mut column = Values {
            kind,
            data: Vec::with_capacity(rows * width),
            size: 0,
            offsets: Vec::with_capacity(offsets),
            valid: vec![1; rows],
            lacks: false,
        };
        if kind == b's' {
            column.offsets.push(0);
        }
        column
    }

    /// Take the values at `place` of lines of `width` values, which end at `ends`; the first of them begins at `begin`.
    fn add(&mut self, data: &[u8], begin: usize, ends: &[u32], place: usize, width: usize) -> Option<()> {
        let bounds = |line: usize| {
            let at = line * width + place;
            let begin = if at == 0 { begin } else { ends[at - 1] as usize + 1 };
            (begin, ends[at] as usize)
        };
        let lines = ends.len() / width;
        match self.kind {
            b's' => self.add_strings(data, (0..lines).map(bounds)),
            b'i' => {
                self.add_numbers(data, (0..lines).map(bounds), i32::MAX as u64, |number| (number as i32).to_ne_bytes())
            }
            _ => {
                self.add_numbers(data, (0..lines).map(bounds), i64::MAX as u64, |number| (number as i64).to_ne_bytes())
            }
        }
    }

    fn add_strings(&mut self, data: &[u8], values: impl Iterator<Item = (usize, usize)> + Clone) -> Option<()> {
        let size: usize = values.clone().map(|(begin, end)| end - begin).sum();
        self.data.resize(self.size + size + BLOCK, 0);
        for (begin, end) in values {
            match &data[begin..end] {
                b"" => return None,
                b"-" => self.lack(self.offsets.len() - 1),
                _ => self.size = copy(data, (begin, end), &mut self.data, self.size),
            }
            self.offsets.push(self.size as i32);
        }
        Some(())
    }

    fn add_numbers<const WIDTH: usize>(
        &mut self,
        data: &[u8],
        values: impl Iterator<Item = (usize, usize)>,
        most: u64,
        store: impl Fn(u64) -> [u8; WIDTH],
    ) -> Option<()> {
        for (begin, end) in values {
            let number = if &data[begin..end] == b"-" {
                self.lack(self.size / WIDTH);
                0
            } else {
                number(data, begin, end).filter(|&number| number <= most)?
            };
            self.data.extend_from_slice(&store(number));
            self.size += WIDTH;
        }
        Some(())
    }

    fn lack(&mut self, row: usize) {
        self.valid[row] = 0;
        self.lacks = true;
    }
}

/// Return where spaces and line ends stand, and how many of them end a line; nothing where any other control character
/// is: a carriage return ends a line too, and a tab may make a blank one.
fn delimiters(data: &[u8]) -> Option<(Vec<u32>, usize)> {
    let mut found = Vec::with_capacity(data.len() / 4);
    let mut lines = 0;
    for (chunk, bytes) in data.chunks(64).enumerate() {
        let (mut ends, newlines, controls) = bits_of_delimiters(bytes);
        if controls & !newlines != 0 {
            return None;
        }
        lines += newlines.count_ones() as usize;
        while ends != 0 {
            found.push((64 * chunk) as u32 + ends.trailing_zeros());
            ends &= ends - 1;
        }
    }
    Some((found, lines))
}

/// Return three bits for each of up to 64 bytes: whether it is a space or a line end, whether a line end, and whether a
/// control character.
fn bits_of_delimiters(bytes: &[u8]) -> (u64, u64, u64) {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() == 64 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8};
        let (mut spaces, mut newlines, mut controls) = (0, 0, 0);
        for (place, part) in bytes.chunks_exact(16).enumerate() {
            // SAFETY: every x86-64 processor has these instructions, and a part has the sixteen bytes that are read.
            let (space, newline, control) = unsafe {
                let part = _mm_loadu_si128(part.as_ptr().cast());
                let space = _mm_cmpeq_epi8(part, _mm_set1_epi8(b' ' as i8));
                let newline = _mm_cmpeq_epi8(part, _mm_set1_epi8(b'\n' as i8));
                let control = _mm_cmpeq_epi8(_mm_min_epu8(part, _mm_set1_epi8(31)), part);
                let bits = |found| u64::from(_mm_movemask_epi8(found) as u32) << (16 * place);
                (bits(space), bits(newline), bits(control))
            };
            spaces |= space;
            newlines |= newline;
            controls |= control;
        }
        return (spaces | newlines, newlines, controls);
    }
    bytes.iter().enumerate().fold((0, 0, 0), |(ends, newlines, controls), (place, &byte)| {
        let bit = |is: bool| u64::from(is) << place;
        (ends | bit(byte == b' ' || byte == b'\n'), newlines | bit(byte == b'\n'), controls | bit(byte < 32))
    })
}

/// Return the number that one to nineteen decimal digits are.
#[inline(always)]
fn number(data: &[u8], begin: usize, end: usize) -> Option<u64> {
    match end - begin {
        0 => None,
        1..=8 => eight(data, begin, end),
        9..=16 => Some(100_000_000 * eight(data, begin, end - 8)? + eight(data, end - 8, end)?),
        17..=19 => data[begin..end].iter().try_fold(0u64, |number, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| 10 * number + u64::from(digit))
        }),
        _ => None,
    }
}

/// Return the number that up to eight digits are, all of them at once: pairs are added up, then pairs of pairs.
#[inline(always)]
fn eight(data: &[u8], begin: usize, end: usize) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let size = end - begin;
    let text = match data.get(end.wrapping_sub(8)..end) {
        Some(text) => u64::from_le_bytes(text.try_into().ok()?),
        None => data[begin..end].iter().fold(0, |text, &byte| text >> 8 | u64::from(byte) << 56),
    };
    let others = !0u64 >> (8 * size - 1) >> 1; // of the bytes before the number, which come first and are the lowest
    let text = (text & !others) | (ZEROS & others);
    let digits = text ^ ZEROS;
    if (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF)
}

fn as_bytes(numbers: &[i32]) -> &[u8] {
    // SAFETY: every number is four bytes, and bytes may lie anywhere.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), 4 * numbers.len()) }
}
