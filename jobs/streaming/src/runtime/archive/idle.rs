//! Work that takes of the processors mostly what rows leave of them.
//!
//! Invariant: it goes on under full load as well, only slowly: a fold that never ends would let its chain grow.

use std::io;
use tokio::sync::oneshot;

/// On Linux a thread of this niceness gets a tenth of a processor that another one wants too, and all of one that nobody
/// wants.
const NICENESS: i32 = 10;

/// The result of work on a thread of its own; nothing if it panicked.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Option<T>> {
    let (give, result) = oneshot::channel();
    std::thread::Builder::new().name("fold".to_string()).spawn(move || {
        // SAFETY: they take no pointers. Zero is the calling thread: Linux keeps niceness by thread. Where it is refused the
        // work is done all the same.
        unsafe {
            if libc::getpriority(libc::PRIO_PROCESS, 0) < NICENESS {
                libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
            }
        }
        // Whoever waited may be gone with the task.
        let _ = give.send(work());
    })?;
    Ok(result.await.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_what_came_of_it_and_leaves_other_threads_alone() {
        // SAFETY: as above.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = niceness();
        assert_eq!(run(niceness).await.expect("a thread"), Some(NICENESS.max(before)));
        assert_eq!(niceness(), before);
        assert_eq!(run(|| -> u8 { panic!("on purpose") }).await.expect("a thread"), None);
    }
}
