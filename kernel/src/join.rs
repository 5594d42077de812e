//! Segments in (literals, columns, columns by code), one string a row out: `json_columns.join` with nulls replaced.

use std::collections::HashMap;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

use crate::buffer::{check_size, Room, Shared, Strings, Texts};
use crate::fold::{fold, Gap};

/// Bytes that are copied at once.
pub const BLOCK: usize = 32;

pub enum Segment {
    /// The same text for each row.
    Literal(Vec<u8>),
    /// A string for each row.
    Rows(Strings),
    /// A string for each code, and a code for each row.
    Coded(Strings, Shared<i32>),
    /// The same, made of several segments.
    Folded { offsets: Vec<i32>, data: Vec<u8>, valid: Option<Vec<u8>>, codes: Vec<i32> },
    /// A number for each row, which is written in decimal, and which of them are there; None: all.
    Numbers(Shared<i64>, Option<Shared<u8>>),
    /// Segments that are all there, or none of them is.
    All(Vec<Segment>),
    /// Members of an object, each with a comma before it that the first one loses; null where there is none of them.
    Listed(Vec<Segment>),
}

/// Segments that are to be joined: `size` tells the bytes to make room for, at most so many are written by `write`.
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
    Literal(Vec<u8>),
    /// Segments, and whether they are listed; else they are all there or none is.
    Group(bool, Vec<Given>),
    Numbers(Shared<i64>, Option<Shared<u8>>),
    Column(Shared<i32>, Shared<u8>, Option<Shared<u8>>, Option<Shared<i32>>),
}

#[pymethods]
impl Join {
    #[new]
    fn new(py: Python<'_>, segments: Vec<Given>) -> PyResult<Self> {
        let rows = segments.iter().find_map(rows_of).ok_or_else(|| PyValueError::new_err("no segment has rows"))?;
        let segments = Check { rows, known: HashMap::new() }.all(segments)?;
        let (segments, size) = py.detach(|| {
            let segments = fold(segments, Gap::Empty, rows);
            let size = columns(&segments).iter().map(|column| column.size(rows)).sum();
            (segments, size)
        });
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
        let columns = columns(&self.segments);
        py.detach(|| {
            let pieces = pieces(&columns, self.rows);
            let gaps = gaps(&pieces, self.rows);
            let mut at = 0;
            let (last, begins) = offsets.split_last_mut().expect("there is one more than rows");
            for (row, begin) in begins.iter_mut().enumerate() {
                *begin = at as i32;
                at = match &gaps {
                    Some(gaps) if gaps[row] => {
                        columns.iter().fold(at, |at, column| column.write(row, out, at).unwrap_or(at))
                    }
                    _ => pieces.iter().fold(at, |at, piece| piece.write(row, out, at)),
                };
            }
            *last = at as i32;
        });
        Ok(())
    }
}

/// A segment's memory.
pub enum Column<'a> {
    Literal(&'a [u8]),
    Rows(Texts<'a>),
    Coded(Texts<'a>, &'a [i32]),
    Numbers(&'a [i64], Option<&'a [u8]>),
    All(Vec<Column<'a>>),
    Listed(Vec<Column<'a>>),
}

fn columns(segments: &[Segment]) -> Vec<Column<'_>> {
    segments.iter().map(Segment::column).collect()
}

impl Segment {
    /// Whether it has as few texts as codes.
    pub fn is_few(&self) -> bool {
        match self {
            Segment::Literal(_) | Segment::Coded(..) | Segment::Folded { .. } => true,
            Segment::Rows(_) | Segment::Numbers(..) => false,
            Segment::All(segments) | Segment::Listed(segments) => segments.iter().all(Segment::is_few),
        }
    }

    /// Add the columns of codes that its text depends on, each with the number of their values.
    pub fn add_codes<'a>(&'a self, found: &mut Vec<(&'a [i32], usize)>) {
        match self {
            Segment::Coded(strings, codes) => found.push((codes.as_slice(), strings.texts().len())),
            Segment::Folded { offsets, codes, .. } => found.push((codes, offsets.len() - 1)),
            Segment::All(segments) | Segment::Listed(segments) => {
                segments.iter().for_each(|segment| segment.add_codes(found));
            }
            Segment::Literal(_) | Segment::Rows(_) | Segment::Numbers(..) => {}
        }
    }

    pub fn column(&self) -> Column<'_> {
        match self {
            Segment::Literal(text) => Column::Literal(text),
            Segment::Rows(strings) => Column::Rows(strings.texts()),
            Segment::Coded(strings, codes) => Column::Coded(strings.texts(), codes.as_slice()),
            Segment::Folded { offsets, data, valid, codes } => {
                Column::Coded(Texts::new(offsets, data, valid.as_deref()), codes)
            }
            Segment::Numbers(numbers, valid) => {
                Column::Numbers(numbers.as_slice(), valid.as_ref().map(Shared::as_slice))
            }
            Segment::All(segments) => Column::All(columns(segments)),
            Segment::Listed(segments) => Column::Listed(columns(segments)),
        }
    }
}

impl Column<'_> {
    /// Bytes that all rows have at most.
    fn size(&self, rows: usize) -> usize {
        match self {
            Column::Literal(text) => rows * text.len(),
            Column::Rows(texts) => texts.total(),
            Column::Coded(texts, codes) => {
                let sizes: Vec<usize> = (0..texts.len()).map(|code| texts.size(code)).collect();
                codes.iter().map(|&code| sizes[code as usize]).sum()
            }
            Column::Numbers(numbers, _) => rows * digits(numbers.iter().copied().max().unwrap_or(0)),
            Column::All(columns) | Column::Listed(columns) => columns.iter().map(|column| column.size(rows)).sum(),
        }
    }

    /// Bytes that a row has at most; of what has few texts.
    pub fn longest(&self) -> usize {
        match self {
            Column::Literal(text) => text.len(),
            Column::Coded(texts, _) => (0..texts.len()).map(|code| texts.size(code)).max().unwrap_or(0),
            Column::All(columns) | Column::Listed(columns) => columns.iter().map(Column::longest).sum(),
            Column::Rows(_) | Column::Numbers(..) => 0,
        }
    }

    /// Write a row's text from `at` on, and return where it ends; None where there is none, whatever was written.
    pub fn write(&self, row: usize, out: &mut [u8], at: usize) -> Option<usize> {
        match self {
            Column::Literal(text) => Some(copy(text, (0, text.len()), out, at)),
            Column::Rows(texts) => texts.bounds(row).map(|bounds| copy(texts.data(), bounds, out, at)),
            Column::Coded(texts, codes) => {
                texts.bounds(codes[row] as usize).map(|bounds| copy(texts.data(), bounds, out, at))
            }
            Column::Numbers(numbers, valid) => {
                valid.is_none_or(|valid| valid[row] != 0).then(|| write_number(numbers[row], out, at))
            }
            Column::All(columns) => columns.iter().try_fold(at, |at, column| column.write(row, out, at)),
            Column::Listed(columns) => {
                // The first comma goes over the byte before, a bracket, which is put back.
                assert!(at > 0, "a bracket stands before what is listed");
                let bracket = out[at - 1];
                let end = columns.iter().fold(at - 1, |at, column| column.write(row, out, at).unwrap_or(at));
                out[at - 1] = bracket;
                (end >= at).then_some(end)
            }
        }
    }
}

/// What most rows are made of, one behind the other: those that lack nothing but what is optional by itself. Groups take
/// several times as long. Of strings so many bytes are left out at the start; literals have room behind them for a
/// block, and their length.
enum Piece<'a> {
    Literal(Vec<u8>, usize),
    Rows(Texts<'a>, usize),
    Coded(Texts<'a>, &'a [i32], usize),
    Numbers(&'a [i64], Option<&'a [u8]>),
    /// Which rows lack it, and what it is made of.
    Optional(Vec<bool>, Vec<Piece<'a>>),
}

fn pieces<'a>(columns: &[Column<'a>], rows: usize) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    columns.iter().for_each(|column| column.add_optional(&mut pieces, rows));
    make_room(&mut pieces);
    pieces
}

fn make_room(pieces: &mut [Piece<'_>]) {
    for piece in pieces {
        match piece {
            Piece::Literal(text, size) => {
                *size = text.len();
                text.resize(*size + BLOCK, 0);
            }
            Piece::Optional(_, pieces) => make_room(pieces),
            _ => {}
        }
    }
}

impl<'a> Column<'a> {
    /// Add what this is made of where nothing of it is lacking, without the first `skip` bytes.
    fn add_to(&self, pieces: &mut Vec<Piece<'a>>, skip: &mut usize, rows: usize) {
        match self {
            Column::Literal(text) => {
                let text = &text[std::mem::take(skip).min(text.len())..];
                match pieces.last_mut() {
                    Some(Piece::Literal(before, _)) => before.extend_from_slice(text),
                    _ => pieces.push(Piece::Literal(text.to_vec(), 0)),
                }
            }
            Column::Rows(texts) => pieces.push(Piece::Rows(*texts, std::mem::take(skip))),
            Column::Coded(texts, codes) => pieces.push(Piece::Coded(*texts, codes, std::mem::take(skip))),
            Column::Numbers(numbers, valid) => pieces.push(Piece::Numbers(numbers, *valid)),
            Column::All(columns) => columns.iter().for_each(|column| column.add_to(pieces, skip, rows)),
            Column::Listed(columns) => {
                let mut others = columns.iter();
                // Whichever member comes first in a row loses its comma: this one, or the row is written by groups.
                others.by_ref().take(1).for_each(|column| column.add_to(pieces, &mut 1, rows));
                others.for_each(|column| column.add_optional(pieces, rows));
            }
        }
    }

    /// The same of what a row may lack without lacking anything else.
    fn add_optional(&self, pieces: &mut Vec<Piece<'a>>, rows: usize) {
        if !self.has_list() {
            let mut own = Vec::new();
            self.add_to(&mut own, &mut 0, rows);
            if let Some(gaps) = gaps(&own, rows) {
                // For few rows, groups are cheaper than to ask every row.
                if 16 * gaps.iter().filter(|&&gap| gap).count() > rows {
                    pieces.push(Piece::Optional(gaps, own));
                    return;
                }
            }
        }
        self.add_to(pieces, &mut 0, rows);
    }

    /// Whether it may be there in parts.
    fn has_list(&self) -> bool {
        match self {
            Column::Listed(_) => true,
            Column::All(columns) => columns.iter().any(Column::has_list),
            _ => false,
        }
    }
}

/// Tell of each row whether it lacks any piece; nothing where none does.
fn gaps(pieces: &[Piece<'_>], rows: usize) -> Option<Vec<bool>> {
    let mut gaps = vec![false; rows];
    let lacks = |texts: &Texts<'_>, at: usize, skip: usize| !texts.is_valid(at) || texts.size(at) < skip;
    for piece in pieces {
        match piece {
            Piece::Rows(texts, skip) if *skip > 0 || texts.has_nulls() => {
                gaps.iter_mut().enumerate().for_each(|(row, gap)| *gap |= lacks(texts, row, *skip));
            }
            Piece::Coded(texts, codes, skip) => {
                let of_code: Vec<bool> = (0..texts.len()).map(|code| lacks(texts, code, *skip)).collect();
                if of_code.contains(&true) {
                    gaps.iter_mut().zip(*codes).for_each(|(gap, &code)| *gap |= of_code[code as usize]);
                }
            }
            Piece::Numbers(_, Some(valid)) => gaps.iter_mut().zip(*valid).for_each(|(gap, &is)| *gap |= is == 0),
            _ => {}
        }
    }
    gaps.contains(&true).then_some(gaps)
}

#[inline(never)]
fn write_optional(gaps: &[bool], pieces: &[Piece<'_>], row: usize, out: &mut [u8], at: usize) -> usize {
    if gaps[row] {
        return at;
    }
    pieces.iter().fold(at, |at, piece| piece.write(row, out, at))
}

impl Piece<'_> {
    #[inline(always)]
    fn write(&self, row: usize, out: &mut [u8], at: usize) -> usize {
        let text = |texts: &Texts<'_>, place: usize, skip: usize, out: &mut [u8]| {
            let (begin, end) = texts.edges(place);
            copy(texts.data(), (begin + skip, end), out, at)
        };
        match self {
            Piece::Literal(text, size) => copy(text, (0, *size), out, at),
            Piece::Rows(texts, skip) => text(texts, row, *skip, out),
            Piece::Coded(texts, codes, skip) => text(texts, codes[row] as usize, *skip, out),
            Piece::Numbers(numbers, _) => write_number(numbers[row], out, at),
            Piece::Optional(gaps, pieces) => write_optional(gaps, pieces, row, out, at),
        }
    }
}

/// Copy what lies within `bounds`, and return where it ends. Short pieces go as one block of fixed size wherever that
/// stays inside both: what it writes too much is overwritten by the next piece.
#[inline(always)]
pub fn copy(from: &[u8], (begin, end): (usize, usize), to: &mut [u8], at: usize) -> usize {
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
    while rest >= 100 {
        place -= 2;
        out[place..place + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest >= 10 {
        out[at..at + 2].copy_from_slice(&PAIRS[rest as usize]);
    } else {
        out[at] = b'0' + rest as u8;
    }
    end
}

/// The digits of the numbers below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

#[inline(always)]
fn digits(number: i64) -> usize {
    (number as u64).checked_ilog10().unwrap_or(0) as usize + 1
}

fn rows_of(given: &Given) -> Option<usize> {
    match given {
        Given::Literal(_) => None,
        Given::Group(_, segments) => segments.iter().find_map(rows_of),
        Given::Numbers(numbers, _) => Some(numbers.as_slice().len()),
        Given::Column(_, _, _, Some(codes)) => Some(codes.as_slice().len()),
        Given::Column(offsets, _, _, None) => Some(offsets.as_slice().len().saturating_sub(1)),
    }
}

/// Tell whether a member may have the comma that stands before it; of columns only the caller knows.
fn begins_with_comma(given: &Given) -> bool {
    match given {
        Given::Literal(text) => text.first() == Some(&b','),
        Given::Group(_, segments) => segments.first().is_some_and(begins_with_comma),
        Given::Numbers(..) => false,
        Given::Column(..) => true,
    }
}

/// Turns what was given into segments of so many rows. Columns of codes stand in several; each is looked at once.
struct Check {
    rows: usize,
    known: HashMap<*const i32, (i32, i32)>,
}

impl Check {
    fn all(&mut self, given: Vec<Given>) -> PyResult<Vec<Segment>> {
        given.into_iter().map(|segment| self.one(segment)).collect()
    }

    fn one(&mut self, given: Given) -> PyResult<Segment> {
        let rows = self.rows;
        let (offsets, data, valid, codes) = match given {
            Given::Literal(text) => return Ok(Segment::Literal(text)),
            Given::Group(is_listed, segments) => {
                if segments.is_empty() {
                    return Err(PyValueError::new_err("a group is empty"));
                }
                if is_listed && !segments.iter().all(begins_with_comma) {
                    return Err(PyValueError::new_err("what is listed begins with no comma"));
                }
                let segments = self.all(segments)?;
                return Ok(if is_listed { Segment::Listed(segments) } else { Segment::All(segments) });
            }
            Given::Numbers(numbers, valid) => {
                check_size("a column of numbers", numbers.as_slice().len(), rows)?;
                check_size("validity", valid.as_ref().map_or(rows, |valid| valid.as_slice().len()), rows)?;
                if numbers.as_slice().iter().fold(false, |below, &number| below | (number < 0)) {
                    return Err(PyValueError::new_err("a number is negative"));
                }
                return Ok(Segment::Numbers(numbers, valid));
            }
            Given::Column(offsets, data, valid, codes) => (offsets, data, valid, codes),
        };
        let strings = Strings::new(offsets, data, valid)?;
        let Some(codes) = codes else {
            check_size("a column", strings.texts().len(), rows)?;
            return Ok(Segment::Rows(strings));
        };
        check_size("a column's codes", codes.as_slice().len(), rows)?;
        let (least, greatest) = *self.known.entry(codes.as_slice().as_ptr()).or_insert_with(|| {
            codes.as_slice().iter().fold((0, 0), |(least, most), &code| (code.min(least), code.max(most)))
        });
        if least < 0 || greatest as usize >= strings.texts().len() && rows > 0 {
            return Err(PyValueError::new_err("a code has no value"));
        }
        Ok(Segment::Coded(strings, codes))
    }
}
