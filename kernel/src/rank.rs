//! Rows in the order of a list of the biggest: `grouped.ranked`.

use std::cmp::Reverse;

use pyo3::prelude::*;

use crate::buffer::{check_size, Room, Shared};

/// Fill `order` with the places of rows: by group, of one the biggest first, and of one size by item.
#[pyfunction]
pub fn rank(
    py: Python<'_>,
    groups: Shared<i64>,
    sizes: Shared<i64>,
    items: Shared<u64>,
    mut order: Room<i64>,
) -> PyResult<()> {
    let (groups, sizes, items) = (groups.as_slice(), sizes.as_slice(), items.as_slice());
    let order = order.as_mut_slice();
    for size in [sizes.len(), items.len(), order.len()] {
        check_size("a column to rank by", size, groups.len())?;
    }
    py.detach(|| {
        let keys = groups.iter().zip(sizes).zip(items);
        let mut ranked: Vec<_> =
            keys.zip(0..).map(|(((&group, &size), &item), place)| (group, Reverse(size), item, place)).collect();
        ranked.sort_unstable();
        order.iter_mut().zip(ranked).for_each(|(to, (.., place))| *to = place);
    });
    Ok(())
}
