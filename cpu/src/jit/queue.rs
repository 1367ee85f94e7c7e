//! What waits to be compiled.
//!
//! Where much code gets warm at once (a compiler starts, or another JIT) requests come faster than they are served, for
//! a long time. What is hottest is served first, whenever it came; when there is no room, what is coldest goes. It is
//! asked for again when it is twice as hot.

use std::collections::{BTreeMap, HashMap};

use super::region::Request;
use crate::block::Mode;

/// Requests that wait at most.
const MOST_REQUESTS: usize = 4096;

/// What a request is for: code at an offset in RAM in a mode.
type Key = (u64, Mode);

/// Requests, at most one for each key.
#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<(u32, Key), Request>,
    /// Where each key is in `waiting`.
    heats: HashMap<Key, u32>,
}

impl Queue {
    /// Adds a request, or puts a newer one in the place of an older. Returns whether there is room for it.
    pub fn push(&mut self, request: Request, heat: u32) -> bool {
        let key = (request.offset, request.mode);
        if let Some(before) = self.heats.remove(&key) {
            self.waiting.remove(&(before, key));
        } else if self.waiting.len() == MOST_REQUESTS {
            let Some((&(coldest, other), _)) = self.waiting.first_key_value() else { return false };
            if coldest >= heat {
                return false;
            }
            self.waiting.pop_first();
            self.heats.remove(&other);
        }
        self.heats.insert(key, heat);
        self.waiting.insert((heat, key), request);
        true
    }

    /// Takes the hottest.
    pub fn pop(&mut self) -> Option<Request> {
        let ((_, key), request) = self.waiting.pop_last()?;
        self.heats.remove(&key);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(offset: u64) -> Request {
        Request { offset, mode: Mode::default(), pages: Default::default() }
    }

    fn offsets(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|request| request.offset).collect()
    }

    #[test]
    fn the_hottest_comes_first_and_once() {
        let mut queue = Queue::default();
        for (offset, heat) in [(0, 5), (2, 7), (4, 6), (0, 10)] {
            assert!(queue.push(request(offset), heat));
        }
        assert_eq!(offsets(&mut queue), [0, 2, 4]);
        assert!(queue.push(request(0), 1), "what was taken can be asked for again");
        assert_eq!(offsets(&mut queue), [0]);
    }

    #[test]
    fn when_there_is_no_room_the_coldest_goes() {
        let mut queue = Queue::default();
        let most = MOST_REQUESTS as u64;
        for offset in 0..most {
            assert!(queue.push(request(offset), 100 + offset as u32));
        }
        assert!(!queue.push(request(most), 100));
        assert!(queue.push(request(most), 101));
        assert!(queue.push(request(2), 1 << 20), "one that waits needs no room");
        let left = offsets(&mut queue);
        assert_eq!(left.len(), MOST_REQUESTS);
        assert_eq!(left[0], 2);
        assert!(left.contains(&most) && !left.contains(&0));
    }
}
