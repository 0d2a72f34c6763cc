//! One buffer per thread that every read goes into first, so that idle connections hold none and no read has to clear
//! the room it is offered.

use std::cell::RefCell;

/// One read takes at most this much.
const SIZE: usize = 64 * 1024;

thread_local! {
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Lends the thread's buffer.
pub(crate) fn with<T>(what: impl FnOnce(&mut [u8]) -> T) -> T {
    ROOM.with_borrow_mut(|room| what(room))
}
