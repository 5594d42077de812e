//! Rows added up by the place they count at: `grouped.tallied`.

use pyo3::prelude::*;

use crate::buffer::{check_places, check_size, Room, Shared};

const SUMS: usize = 5;

/// Fill `found` with the number of rows at each place, the sums of their two measures, the least of their first times
/// and the greatest of their last ones, one after the other; False where 64 bits do not hold a sum.
#[pyfunction]
pub fn tally(
    py: Python<'_>,
    at: Shared<i32>,
    measures: [Shared<i64>; 2],
    firsts: Shared<i64>,
    lasts: Shared<i64>,
    mut found: Room<i64>,
) -> PyResult<bool> {
    let (at, found) = (at.as_slice(), found.as_mut_slice());
    let places = found.len() / SUMS;
    let [first, second, begun, ended] = [&measures[0], &measures[1], &firsts, &lasts].map(Shared::as_slice);
    for column in [first, second, begun, ended] {
        check_size("a column of numbers", column.len(), at.len())?;
    }
    check_size("the buffer for the sums", found.len(), SUMS * places)?;
    check_places(at, places)?;
    Ok(py.detach(|| {
        let mut sums = vec![[0, 0, 0, i64::MAX, i64::MIN]; places];
        let mut overflows = false;
        for (row, &place) in at.iter().enumerate() {
            let [rows, one, other, least, greatest] = &mut sums[place as usize];
            let (one_more, beyond) = one.overflowing_add(first[row]);
            let (other_more, beyond_too) = other.overflowing_add(second[row]);
            overflows |= beyond | beyond_too;
            *rows += 1;
            (*one, *other) = (one_more, other_more);
            *least = begun[row].min(*least);
            *greatest = ended[row].max(*greatest);
        }
        for (place, sums) in sums.iter().enumerate() {
            for (which, &sum) in sums.iter().enumerate() {
                found[which * places + place] = sum;
            }
        }
        !overflows
    }))
}
