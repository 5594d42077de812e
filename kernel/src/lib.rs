//! The inner loops of decoding, rendering and rolling up, over whole columns: buffers of Arrow and numpy in, filled buffers out.
//!
//! Each does what a Python function of beam_flowlogs does, though the members of a document may stand in another order:
//! that one is what runs where this module was not built, and what the tests hold this one against. Every loop runs without Python's lock.

mod address;
mod buffer;
mod code;
mod community_id;
mod fold;
mod join;
mod rank;
mod service;
mod tally;
mod text;

use pyo3::prelude::*;

/// Changes with what a function takes or gives: `kernel.py` uses no module of another number.
const INTERFACE: u32 = 4;

#[pymodule]
fn _kernel(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(address::parse_addresses, module)?)?;
    module.add_function(wrap_pyfunction!(code::code_strings, module)?)?;
    module.add_function(wrap_pyfunction!(code::code_numbers, module)?)?;
    module.add_function(wrap_pyfunction!(code::number_combinations, module)?)?;
    module.add_function(wrap_pyfunction!(community_id::community_ids, module)?)?;
    module.add_function(wrap_pyfunction!(rank::rank, module)?)?;
    module.add_function(wrap_pyfunction!(service::count_services, module)?)?;
    module.add_function(wrap_pyfunction!(tally::tally, module)?)?;
    module.add_function(wrap_pyfunction!(text::parse_text, module)?)?;
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<join::Join>()
}
