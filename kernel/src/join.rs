//! Segments in (literals, columns, columns by code), one string a row out: `json_columns.join` with nulls replaced.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

use crate::buffer::{check_size, Room, Shared, Strings, Texts};

/// Bytes that are copied at once.
const BLOCK: usize = 32;

enum Segment {
    /// The same text for each row, with room behind it for a block, and its length.
    Literal(Vec<u8>, usize),
    /// A string for each row.
    Rows(Strings),
    /// A string for each code, and a code for each row.
    Coded(Strings, Shared<i32>),
    /// A number for each row, which is written in decimal.
    Numbers(Shared<i64>),
}

/// Segments that are to be joined: `size` tells the bytes to make room for, `write` joins them.
#[pyclass]
pub struct Join {
    #[pyo3(get)]
    rows: usize,
    segments: Vec<Segment>,
    #[pyo3(get)]
    size: usize,
}

#[derive(FromPyObject)]
enum Given {
    Numbers(Shared<i64>),
    Literal(Vec<u8>),
    Column(Shared<i32>, Shared<u8>, Option<Shared<u8>>, Option<Shared<i32>>),
}

#[pymethods]
impl Join {
    #[new]
    fn new(py: Python<'_>, segments: Vec<Given>) -> PyResult<Self> {
        let rows = segments.iter().find_map(rows_of).ok_or_else(|| PyValueError::new_err("no segment has rows"))?;
        let segments = segments.into_iter().map(|segment| checked(rows, segment)).collect::<PyResult<Vec<_>>>()?;
        let columns: Vec<_> = segments.iter().map(Segment::column).collect();
        let size = py.detach(|| columns.iter().map(|column| column.size(rows)).sum());
        if size > i32::MAX as usize {
            return Err(PyOverflowError::new_err("the joined rows are larger than 2 GiB"));
        }
        Ok(Join { rows, segments, size })
    }

    /// Write the rows one behind the other to `out`, which has `size` bytes, and to `offsets` where each begins.
    fn write(&self, py: Python<'_>, mut out: Room<u8>, mut offsets: Room<i32>) -> PyResult<()> {
        let (out, offsets) = (out.as_mut_slice(), offsets.as_mut_slice());
        check_size("the buffer for the rows", out.len(), self.size)?;
        check_size("the buffer for the offsets", offsets.len(), self.rows + 1)?;
        let columns: Vec<_> = self.segments.iter().map(Segment::column).collect();
        py.detach(|| fill(&columns, out, offsets));
        Ok(())
    }
}

/// A segment's memory.
#[derive(Clone, Copy)]
enum Column<'a> {
    Literal(&'a [u8], usize),
    Rows(Texts<'a>),
    Coded(Texts<'a>, &'a [i32]),
    Numbers(&'a [i64]),
}

impl Segment {
    fn column(&self) -> Column<'_> {
        match self {
            Segment::Literal(text, size) => Column::Literal(text, *size),
            Segment::Rows(strings) => Column::Rows(strings.texts()),
            Segment::Coded(strings, codes) => Column::Coded(strings.texts(), codes.as_slice()),
            Segment::Numbers(numbers) => Column::Numbers(numbers.as_slice()),
        }
    }
}

impl Column<'_> {
    fn size(&self, rows: usize) -> usize {
        let size = |texts: &Texts<'_>, at: usize| {
            let (begin, end) = texts.bounds(at);
            end - begin
        };
        match self {
            Column::Literal(_, size) => rows * size,
            Column::Rows(texts) => (0..rows).map(|row| size(texts, row)).sum(),
            Column::Coded(texts, codes) => codes.iter().map(|&code| size(texts, code as usize)).sum(),
            Column::Numbers(numbers) => numbers.iter().map(|&number| digits(number)).sum(),
        }
    }
}

fn fill(columns: &[Column<'_>], out: &mut [u8], offsets: &mut [i32]) {
    let mut at = 0;
    let (last, begins) = offsets.split_last_mut().expect("there is one more than rows");
    for (row, begin) in begins.iter_mut().enumerate() {
        *begin = at as i32;
        for column in columns {
            at = match column {
                Column::Literal(text, size) => copy(text, (0, *size), out, at),
                Column::Rows(texts) => copy(texts.data(), texts.bounds(row), out, at),
                Column::Coded(texts, codes) => copy(texts.data(), texts.bounds(codes[row] as usize), out, at),
                Column::Numbers(numbers) => write_number(numbers[row], out, at),
            };
        }
    }
    *last = at as i32;
}

/// Copy what lies within `bounds`, and return where it ends. Short pieces go as one block of fixed size wherever that
/// stays inside both: what it writes too much is overwritten by the next piece.
#[inline(always)]
fn copy(from: &[u8], (begin, end): (usize, usize), to: &mut [u8], at: usize) -> usize {
    let size = end - begin;
    if size <= BLOCK && begin + BLOCK <= from.len() && at + BLOCK <= to.len() {
        to[at..at + BLOCK].copy_from_slice(&from[begin..begin + BLOCK]);
    } else {
        to[at..at + size].copy_from_slice(&from[begin..end]);
    }
    at + size
}

/// Write a number that is not negative, and return where it ends.
#[inline(always)]
fn write_number(number: i64, out: &mut [u8], at: usize) -> usize {
    let end = at + digits(number);
    let (mut rest, mut place) = (number as u64, end);
    while rest >= 10 {
        place -= 1;
        out[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out[at] = b'0' + rest as u8;
    end
}

#[inline(always)]
fn digits(number: i64) -> usize {
    (number as u64).checked_ilog10().unwrap_or(0) as usize + 1
}

fn rows_of(given: &Given) -> Option<usize> {
    match given {
        Given::Literal(_) => None,
        Given::Numbers(numbers) => Some(numbers.as_slice().len()),
        Given::Column(_, _, _, Some(codes)) => Some(codes.as_slice().len()),
        Given::Column(offsets, _, _, None) => Some(offsets.as_slice().len().saturating_sub(1)),
    }
}

fn checked(rows: usize, given: Given) -> PyResult<Segment> {
    let (offsets, data, valid, codes) = match given {
        Given::Literal(mut text) => {
            let size = text.len();
            text.resize(size + BLOCK, 0);
            return Ok(Segment::Literal(text, size));
        }
        Given::Numbers(numbers) => {
            check_size("a column of numbers", numbers.as_slice().len(), rows)?;
            if numbers.as_slice().iter().fold(false, |below, &number| below | (number < 0)) {
                return Err(PyValueError::new_err("a number is negative"));
            }
            return Ok(Segment::Numbers(numbers));
        }
        Given::Column(offsets, data, valid, codes) => (offsets, data, valid, codes),
    };
    let strings = Strings::new(offsets, data, valid)?;
    let Some(codes) = codes else {
        check_size("a column", strings.texts().len(), rows)?;
        return Ok(Segment::Rows(strings));
    };
    check_size("a column's codes", codes.as_slice().len(), rows)?;
    let known = strings.texts().len() as i32;
    if codes.as_slice().iter().fold(false, |beyond, &code| beyond | (code < 0) | (code >= known)) {
        return Err(PyValueError::new_err("a code has no value"));
    }
    Ok(Segment::Coded(strings, codes))
}
