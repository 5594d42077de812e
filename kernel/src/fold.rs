//! Neighbours of few values made one: segments in, fewer out, of which each row is to be written in fewer steps.
//!
//! Literals, columns by code and groups of nothing else have one text for each combination of codes. Of these few occur,
//! so the text of a run of such segments is written once for each, and the run becomes a column by code itself.

use crate::code::{code_small, number_pairs};
use crate::join::{Column, Segment, BLOCK};

/// Combinations of codes that a run has at most: with more texts than the cache takes it is no faster.
const MOST: usize = 1024;

/// What it means for segments that stand side by side that one of them is not there in a row.
#[derive(Clone, Copy, PartialEq)]
pub enum Gap {
    /// It adds nothing.
    Empty,
    /// None of them is there.
    Null,
    /// It adds nothing, and where no other does either there is nothing.
    NullIfAll,
}

/// Return the segments with runs of few values made one, within groups too.
pub fn fold(segments: Vec<Segment>, gap: Gap, rows: usize) -> Vec<Segment> {
    let mut folded = Vec::with_capacity(segments.len());
    let mut run = Run::default();
    for segment in segments {
        let Some(segment) = run.take(segment, rows) else {
            continue;
        };
        let before = std::mem::take(&mut run);
        let is_alone = before.segments.is_empty();
        folded.append(&mut before.folded(gap));
        let segment = if is_alone { Some(segment) } else { run.take(segment, rows) };
        folded.extend(segment.map(|segment| match segment {
            Segment::All(within) => Segment::All(fold(within, Gap::Null, rows)),
            Segment::Listed(within) => Segment::Listed(fold(within, Gap::NullIfAll, rows)),
            column => column,
        }));
    }
    folded.append(&mut run.folded(gap));
    folded
}

/// Segments of few values that follow each other.
#[derive(Default)]
struct Run {
    segments: Vec<Segment>,
    /// Columns of codes that are part of the combinations, by where they lie.
    known: Vec<*const i32>,
    /// The combination of each row, and a row of each; none where there are no such columns.
    met: Option<(Vec<i32>, Vec<u32>)>,
}

impl Run {
    /// Add a segment, or give it back where it has a text for each row, or would make too many combinations.
    fn take(&mut self, segment: Segment, rows: usize) -> Option<Segment> {
        if !segment.is_few() {
            return Some(segment);
        }
        let mut columns = Vec::new();
        segment.add_codes(&mut columns);
        let (mut met, mut known) = (None, Vec::new());
        for (of_column, values) in columns {
            let place = of_column.as_ptr();
            if values < 2 || self.known.contains(&place) || known.contains(&place) {
                continue;
            }
            let mut codes = vec![0; rows];
            let firsts = match met.as_ref().or(self.met.as_ref()) {
                Some((before, firsts)) => number_pairs((before, firsts.len()), (of_column, values), MOST, &mut codes),
                None => code_small(&mut codes, MOST, values, of_column.iter().map(|&code| code as usize)),
            };
            let Some(firsts) = firsts else {
                return Some(segment);
            };
            met = Some((codes, firsts));
            known.push(place);
        }
        self.met = met.or(self.met.take());
        self.known.append(&mut known);
        self.segments.push(segment);
        None
    }

    fn folded(self, gap: Gap) -> Vec<Segment> {
        let (codes, firsts) = match self.met {
            Some(met) if self.segments.len() > 1 => met,
            _ => return self.segments,
        };
        let columns: Vec<Column<'_>> = self.segments.iter().map(Segment::column).collect();
        let longest: usize = columns.iter().map(Column::longest).sum();
        if longest.saturating_mul(firsts.len()) > i32::MAX as usize {
            return self.segments;
        }
        // A byte before the text, since what is listed looks at it.
        let mut text = vec![0; 1 + longest + BLOCK];
        let (mut offsets, mut data, mut valid) = (vec![0], Vec::new(), Vec::with_capacity(firsts.len()));
        for row in firsts {
            let end = columns.iter().try_fold(1, |at, column| match column.write(row as usize, &mut text, at) {
                None if gap != Gap::Null => Some(at),
                end => end,
            });
            let end = end.filter(|&end| end > 1 || gap != Gap::NullIfAll);
            valid.push(u8::from(end.is_some()));
            data.extend_from_slice(&text[1..end.unwrap_or(1)]);
            offsets.push(data.len() as i32);
        }
        data.resize(data.len() + BLOCK, 0); // so that its last texts, too, are copied as blocks
        let valid = valid.contains(&0).then_some(valid);
        vec![Segment::Folded { offsets, data, valid, codes }]
    }
}
