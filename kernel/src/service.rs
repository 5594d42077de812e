//! Attempts to reach services and answers of theirs, by roll-up and service: `services.counted`.

use pyo3::prelude::*;

use crate::buffer::{check_places, check_size, Room, Shared};
use crate::code::{mixed, random, FREE};

const ATTEMPT: u8 = 1;
const ANSWER: u8 = 2;

/// An address (as two numbers), its port and family, and the roll-up that it is seen in.
type Key = [u64; 3];

struct Service {
    key: Key,
    place: u32,
}

/// One end of every flow.
struct Ends<'a> {
    at: &'a [i32],
    groups: &'a [i32],
    addresses: &'a [u8],
    is_v6: &'a [u8],
    ports: &'a [i32],
}

impl Ends<'_> {
    #[inline(always)]
    fn key(&self, row: usize) -> Key {
        let half = |at: usize| u64::from_le_bytes(self.addresses[at..at + 8].try_into().unwrap_or_default());
        let port = u64::from(self.ports[row] as u16) << 1 | u64::from(self.is_v6[row]);
        [half(16 * row), half(16 * row + 8), (self.groups[self.at[row] as usize] as u64) << 32 | port]
    }
}

/// Services by their key; each call draws the start of its hashes anew, so nobody can choose keys that collide.
struct Services {
    seed: u64,
    table: Vec<u32>,
    known: Vec<Service>,
}

impl Services {
    fn new() -> Self {
        Services { seed: random(), table: vec![FREE; 1024], known: Vec::new() }
    }

    /// The place in the table where a key stands, or would.
    #[inline(always)]
    fn slot(&self, key: &Key) -> usize {
        let mask = self.table.len() - 1;
        let hash = mixed(mixed(self.seed, key[0]) ^ key[1], key[2]);
        let mut slot = (hash >> 32) as usize & mask;
        while self.table[slot] != FREE && self.known[self.table[slot] as usize].key != *key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[inline(always)]
    fn find(&self, key: &Key) -> Option<usize> {
        let known = self.table[self.slot(key)];
        (known != FREE).then_some(known as usize)
    }

    #[inline(always)]
    fn find_or_add(&mut self, key: Key) -> usize {
        let slot = self.slot(&key);
        if self.table[slot] != FREE {
            return self.table[slot] as usize;
        }
        self.table[slot] = self.known.len() as u32;
        self.known.push(Service { key, place: FREE });
        if 2 * self.known.len() > self.table.len() {
            self.table = vec![FREE; 4 * self.table.len()];
            for number in 0..self.known.len() {
                let slot = self.slot(&self.known[number].key);
                self.table[slot] = number as u32;
            }
        }
        self.known.len() - 1
    }
}

/// Fill the buffers with a row of each service, whether the service is that row's source, and how often it was tried and
/// answered; return how many there are.
///
/// Row by row `at` tells where in `groups` its roll-up's number stands. Of `told`, 1 says that a row may be an attempt to
/// reach its destination, 2 that it may be an answer of its source, 3 either; those that are an answer are no attempt.
/// With `of_tried` only what comes from a service that was tried is an answer, else all is, and no row may be either.
/// `sources` and `destinations` are addresses of 16 bytes, and which of them are IPv6.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn count_services(
    py: Python<'_>,
    at: Shared<i32>,
    groups: Shared<i32>,
    told: Shared<u8>,
    sources: [Shared<u8>; 2],
    destinations: [Shared<u8>; 2],
    ports: [Shared<i32>; 2],
    of_tried: bool,
    mut rows: Room<i64>,
    mut is_source: Room<u8>,
    mut begun: Room<i64>,
    mut answered: Room<i64>,
) -> PyResult<usize> {
    let (at, groups, told) = (at.as_slice(), groups.as_slice(), told.as_slice());
    check_size("the places", at.len(), told.len())?;
    check_places(at, groups.len())?;
    let [sources, destinations] = [(&sources, &ports[0]), (&destinations, &ports[1])].map(|(addresses, ports)| Ends {
        at,
        groups,
        addresses: addresses[0].as_slice(),
        is_v6: addresses[1].as_slice(),
        ports: ports.as_slice(),
    });
    for ends in [&sources, &destinations] {
        check_size("the addresses", ends.addresses.len(), 16 * told.len())?;
        check_size("the families", ends.is_v6.len(), told.len())?;
        check_size("the ports", ends.ports.len(), told.len())?;
    }
    let (rows, is_source) = (rows.as_mut_slice(), is_source.as_mut_slice());
    let (begun, answered) = (begun.as_mut_slice(), answered.as_mut_slice());
    for size in [rows.len(), is_source.len(), begun.len(), answered.len()] {
        check_size("a buffer for the services", size, told.len())?;
    }
    Ok(py.detach(|| {
        let mut services = Services::new();
        let mut is_tried = [0u64; (1 << 16) / 64];
        let mut numbers = vec![0; told.len()];
        for row in rows_told(told, ATTEMPT) {
            numbers[row] = services.find_or_add(destinations.key(row));
            let port = destinations.ports[row] as u16;
            is_tried[usize::from(port / 64)] |= 1 << (port % 64);
        }
        let mut size = 0;
        for row in rows_told(told, ATTEMPT | ANSWER) {
            let port = sources.ports[row] as u16;
            let answer = if told[row] & ANSWER == 0 {
                None
            } else if !of_tried {
                Some(services.find_or_add(sources.key(row)))
            } else if is_tried[usize::from(port / 64)] >> (port % 64) & 1 == 1 {
                services.find(&sources.key(row))
            } else {
                None
            };
            if answer.is_none() && told[row] & ATTEMPT == 0 {
                continue;
            }
            let service = &mut services.known[answer.unwrap_or(numbers[row])];
            if service.place == FREE {
                service.place = size as u32;
                (rows[size], begun[size], answered[size]) = (row as i64, 0, 0);
                is_source[size] = u8::from(answer.is_some());
                size += 1;
            }
            let counts = if answer.is_some() { &mut *answered } else { &mut *begun };
            counts[service.place as usize] += 1;
        }
        size
    }))
}

/// The rows that tell any of it, found without a branch for each row: which ones do cannot be foreseen.
fn rows_told(told: &[u8], what: u8) -> impl Iterator<Item = usize> {
    let mut found = vec![0; told.len()];
    let mut count = 0;
    for (row, &told) in (0..).zip(told) {
        found[count] = row;
        count += usize::from(told & what != 0);
    }
    found.truncate(count);
    found.into_iter()
}
