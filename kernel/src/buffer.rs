//! Python buffers as slices, for as long as they are held.

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Numbers that somebody else owns and, as is the custom with Arrow, nobody changes any more.
pub struct Shared<T: Element>(PyBuffer<T>);

impl<'a, 'py, T: Element> FromPyObject<'a, 'py> for Shared<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::get(&object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("a buffer is not contiguous"));
        }
        Ok(Shared(buffer))
    }
}

impl<T: Element> Shared<T> {
    pub fn as_slice(&self) -> &[T] {
        if self.0.item_count() == 0 {
            return &[];
        }
        // SAFETY: contiguous, of that many elements of T, and kept alive by the buffer held here.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<T>(), self.0.item_count()) }
    }
}

/// Room that the caller made for a result, and looks at only afterwards.
pub struct Room<T: Element>(Shared<T>);

impl<'a, 'py, T: Element> FromPyObject<'a, 'py> for Room<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let buffer = Shared::<T>::extract(object)?;
        if buffer.0.readonly() {
            return Err(PyValueError::new_err("the buffer for a result is read-only"));
        }
        Ok(Room(buffer))
    }
}

impl<T: Element> Room<T> {
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        let size = self.0 .0.item_count();
        if size == 0 {
            return &mut [];
        }
        // SAFETY: as above, writable, and handed to nobody else before the call is over.
        unsafe { std::slice::from_raw_parts_mut(self.0 .0.buf_ptr().cast::<T>(), size) }
    }
}

/// Fail unless a buffer has the elements that it must have.
pub fn check_size(name: &str, found: usize, expected: usize) -> PyResult<()> {
    if found == expected {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name} has {found} elements, not {expected}")))
}

/// Fail unless places are some of so many.
pub fn check_places(at: &[i32], count: usize) -> PyResult<()> {
    let count = count.min(1 << 31) as u32;
    // All of them, even after one that is not: without a way out the loop runs on vectors.
    if at.iter().fold(false, |beyond, &place| beyond | (place as u32 >= count)) {
        return Err(PyValueError::new_err("a place is not one of those that there are"));
    }
    Ok(())
}

/// The buffers of an Arrow column of strings.
pub struct Strings {
    offsets: Shared<i32>,
    data: Shared<u8>,
    valid: Option<Shared<u8>>,
}

/// Strings: where each begins (and the last one ends) in the data, and whether it is there (1) or null (0).
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    offsets: &'a [i32],
    data: &'a [u8],
    valid: Option<&'a [u8]>,
}

impl Strings {
    /// Take a column's buffers; every offset is checked here, once, so that nothing is read beside the data.
    pub fn new(offsets: Shared<i32>, data: Shared<u8>, valid: Option<Shared<u8>>) -> PyResult<Self> {
        let bounds = offsets.as_slice();
        // All of them, even after one that is not: without a way out the loop runs on vectors.
        let ordered = bounds.windows(2).fold(true, |ordered, pair| ordered & (pair[0] <= pair[1]));
        let first = bounds.first().copied().unwrap_or(-1);
        let last = bounds.last().copied().unwrap_or(-1);
        if first < 0 || !ordered || last as usize > data.as_slice().len() {
            return Err(PyValueError::new_err("offsets do not lie in order within their data"));
        }
        if let Some(valid) = &valid {
            check_size("validity", valid.as_slice().len(), bounds.len() - 1)?;
        }
        Ok(Strings { offsets, data, valid })
    }

    pub fn texts(&self) -> Texts<'_> {
        Texts {
            offsets: self.offsets.as_slice(),
            data: self.data.as_slice(),
            valid: self.valid.as_ref().map(Shared::as_slice),
        }
    }
}

impl<'a> Texts<'a> {
    /// Strings of our own: `offsets` lie in order within `data`.
    pub fn new(offsets: &'a [i32], data: &'a [u8], valid: Option<&'a [u8]>) -> Self {
        Texts { offsets, data, valid }
    }

    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Where a string begins and ends in the data, or nothing where it is null.
    #[inline(always)]
    pub fn bounds(&self, at: usize) -> Option<(usize, usize)> {
        self.is_valid(at).then(|| self.edges(at))
    }

    /// The same of a string that is there.
    #[inline(always)]
    pub fn edges(&self, at: usize) -> (usize, usize) {
        (self.offsets[at] as usize, self.offsets[at + 1] as usize)
    }

    /// A string, or nothing where it is null.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.bounds(at).map(|(begin, end)| &self.data[begin..end])
    }

    /// The bytes of a string; a null has none.
    #[inline(always)]
    pub fn size(&self, at: usize) -> usize {
        self.bounds(at).map_or(0, |(begin, end)| end - begin)
    }

    /// The bytes of all strings, and of what lies below nulls.
    pub fn total(&self) -> usize {
        (self.offsets[self.len()] - self.offsets[0]) as usize
    }

    pub fn has_nulls(&self) -> bool {
        self.valid.is_some()
    }

    /// Whether a string is there.
    #[inline(always)]
    pub fn is_valid(&self, at: usize) -> bool {
        self.valid.is_none_or(|valid| valid[at] != 0)
    }
}
