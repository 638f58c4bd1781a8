//! Memory that all ranks of one host see, and the sum of what lies in it.
//!
//! Each rank has its gradients in a region of its own and reads those of the others where they lie: nothing is sent and nothing
//! is copied to be sent. The array is cut into one part per rank; a rank adds up its part, and takes the others' once they are
//! whole. Between these steps the ranks wait for each other on counters in the same memory. Who is lost is still found out by
//! the connections, which a rank that waits looks at.
//!
//! The memory has no name in any folder: it belongs to the chief, and the others find it among the files that the chief holds
//! open. So nothing is left behind, whoever is killed.
//!
//! Invariant: a value is summed in the order of ranks in which the connections would have summed it ([`super::all_reduce`]), so
//! the bits do not depend on where the ranks run. Between two meetings a rank writes only its own region, and no value that
//! another rank reads.

use crate::frame::{Refusal, tag};
use crate::mesh::{Error, Mesh};
use crate::ring::part;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What ranks tell each other lies in the first page of the memory, a line of it for each.
const LINE: usize = 64;
const PAGE: usize = 4096;
const MAX_WORLD: usize = PAGE / LINE;

/// A rank that is about to come is not slept for.
const SPINS: usize = 2_000;
/// How often one who sleeps looks whether the others still live.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One rank's line.
#[repr(C)]
struct Line {
    /// How many meetings this rank has come to.
    came: AtomicU32,
    /// The step of the sum that it came to last.
    step: AtomicU64,
}

/// In which order a value is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From zero on, rank 0 first.
    Ranks,
    /// The rank whose part it is first, and then those after it.
    Ring,
}

/// As many values of each rank.
pub struct Shared {
    start: *mut u8,
    /// Bytes of all of it.
    size: usize,
    /// Bytes from one rank's values to the next one's.
    stride: usize,
    len: usize,
    rank: usize,
    world: usize,
    n_meetings: u32,
}

// SAFETY: the memory belongs to no thread; whoever has the `Shared` is the only one in this process to write this rank's region.
unsafe impl Send for Shared {}

impl Shared {
    /// Memory for `len` values of each rank, all zero; nothing where the ranks are not on one host, or it has no such memory.
    /// All ranks call this together.
    pub fn among(mesh: &Mesh, step: u64, len: usize) -> Result<Option<Self>, Error> {
        let (rank, world) = (mesh.rank(), mesh.world());
        if world > MAX_WORLD {
            return Ok(None);
        }
        let stride = size_of::<f32>() * len.next_multiple_of(PAGE / size_of::<f32>());
        let size = PAGE + world * stride;
        let made =
            if rank == 0 { make(size).map(|(file, name)| (Some(file), name)) } else { Ok((None, String::new())) };
        let (file, invitation) = made.unwrap_or_else(|error| {
            tracing::info!(%error, "no shared memory for gradients: they go over connections");
            (None, String::new())
        });
        if rank == 0 {
            let frame = mesh.frame(step, tag::SHARED, invitation.as_bytes(), None);
            mesh.others().try_for_each(|other| mesh.send(other, &frame))?;
        }
        let file = match file {
            None if rank > 0 => {
                let invitation = mesh.receive(0, step, tag::SHARED)?;
                accept(&String::from_utf8_lossy(&invitation), size).ok()
            }
            file => file,
        };
        // The chief keeps the file open until all others have it.
        let shared = file.as_ref().and_then(|file| map(file, size).ok()).map(|start| Self {
            start,
            size,
            stride,
            len,
            rank,
            world,
            n_meetings: 0,
        });
        // One that is on another host is enough for all to use connections.
        let frame = mesh.frame(step, tag::SHARED, &[u8::from(shared.is_some())], None);
        mesh.others().try_for_each(|other| mesh.send(other, &frame))?;
        let mut all = shared.is_some();
        for other in mesh.others() {
            all &= mesh.receive(other, step, tag::SHARED)? == [1];
        }
        drop(file);
        Ok(shared.filter(|_| all))
    }

    /// This rank's values.
    pub fn values(&self) -> &[f32] {
        // SAFETY: the region is ours alone to write, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.of(self.rank), self.len) }
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; after a sum nobody reads them until the next one, to which this rank has to come first.
        unsafe { std::slice::from_raw_parts_mut(self.of(self.rank), self.len) }
    }

    /// Replaces the values by their sum over all ranks.
    pub fn sum(&mut self, mesh: &Mesh, step: u64, order: Order) -> Result<(), Error> {
        self.line(self.rank).step.store(step, Ordering::Relaxed);
        self.meet(mesh)?;
        for other in mesh.others() {
            // It may have come to the second meeting already, and no further.
            let its = self.line(other).step.load(Ordering::Relaxed);
            if its != step {
                return Err(mesh.refuse(other, Refusal::Step { got: its, here: step }));
            }
        }
        self.add_part(part(self.world, self.rank, self.len), order);
        self.meet(mesh)?;
        for other in (0..self.world).filter(|other| *other != self.rank) {
            let Range { start, end } = part(self.world, other, self.len);
            // SAFETY: both lie within the two regions, which are apart; that rank writes its own part no more until all have met.
            unsafe {
                let (from, to) = (self.of(other).add(start), self.of(self.rank).add(start));
                std::ptr::copy_nonoverlapping(from.cast_const(), to, end - start);
            }
        }
        self.meet(mesh)
    }

    /// Sums all ranks' values of this rank's part into its own.
    fn add_part(&self, part: Range<usize>, order: Order) {
        // In blocks that stay in the nearest cache while every rank's share of them is added.
        const BLOCK: usize = 2048;
        let mut sum = [0f32; BLOCK];
        let first = if order == Order::Ring { self.rank } else { 0 };
        for start in part.clone().step_by(BLOCK) {
            let len = BLOCK.min(part.end - start);
            let sum = &mut sum[..len];
            for (nth, rank) in (first..first + self.world).map(|rank| rank % self.world).enumerate() {
                // SAFETY: within that rank's region, whose values of this part nobody but us writes before all have met.
                let addend = unsafe { std::slice::from_raw_parts(self.of(rank).add(start), len) };
                match (nth, order) {
                    (0, Order::Ring) => sum.copy_from_slice(addend),
                    (0, Order::Ranks) => sum.iter_mut().zip(addend).for_each(|(sum, addend)| *sum = 0.0 + addend),
                    _ => sum.iter_mut().zip(addend).for_each(|(sum, addend)| *sum += addend),
                }
            }
            // SAFETY: within our own region.
            unsafe { std::ptr::copy_nonoverlapping(sum.as_ptr(), self.of(self.rank).add(start), len) };
        }
    }

    /// Waits until all ranks have come here as often as this one.
    fn meet(&mut self, mesh: &Mesh) -> Result<(), Error> {
        self.n_meetings = self.n_meetings.wrapping_add(1);
        let own = self.line(self.rank);
        own.came.store(self.n_meetings, Ordering::Release);
        wake(&own.came);
        let n_meetings = self.n_meetings;
        mesh.others().try_for_each(|other| {
            let absence = |has_news, waited| mesh.absence(other, has_news, waited);
            wait(&self.line(other).came, n_meetings, || mesh.has_news(other), absence)
        })
    }

    fn line(&self, rank: usize) -> &Line {
        // SAFETY: within the first page, zero at first, and only ever used as atomics.
        unsafe { &*self.start.add(rank * LINE).cast::<Line>() }
    }

    fn of(&self, rank: usize) -> *mut f32 {
        // SAFETY: `rank` is below the world, for whose regions there is room.
        unsafe { self.start.add(PAGE + rank * self.stride).cast() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and nothing of it is borrowed any more.
        unsafe { libc::munmap(self.start.cast(), self.size) };
    }
}

/// Waits until a counter has come to `due`. From time to time it is asked whether whoever counts has news, and why that has
/// not come.
fn wait(
    counter: &AtomicU32,
    due: u32,
    has_news: impl Fn() -> bool,
    mut absence: impl FnMut(bool, Duration) -> Result<(), Error>,
) -> Result<(), Error> {
    let is_there = || counter.load(Ordering::Acquire).wrapping_sub(due) as i32 >= 0;
    for _ in 0..SPINS {
        if is_there() {
            return Ok(());
        }
        std::hint::spin_loop();
    }
    let began = Instant::now();
    let mut looked = began;
    loop {
        let came = counter.load(Ordering::Acquire);
        if is_there() {
            return Ok(());
        }
        sleep_on(counter, came);
        if looked.elapsed() < LOOK_EVERY {
            continue;
        }
        looked = Instant::now();
        let has_news = has_news();
        // In this order: one that has come may have gone on, and sent what is for later.
        if is_there() {
            return Ok(());
        }
        absence(has_news, began.elapsed())?;
    }
}

/// Memory of this size in no folder, and what others find it by.
fn make(size: usize) -> io::Result<(File, String)> {
    let name = format!("smack-gradients-{:016x}{:016x}", random(), random());
    let c_name = std::ffi::CString::new(name.as_str()).map_err(io::Error::other)?;
    // SAFETY: the name lives through the call; the descriptor that comes back is nobody else's.
    let file = unsafe {
        let descriptor = libc::memfd_create(c_name.as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    let too_large = |_| io::Error::other("it would be larger than files can be");
    let bytes = libc::off_t::try_from(size).map_err(too_large)?;
    // Taken now: memory that is short would otherwise end the process that touches it.
    // SAFETY: changes nothing but the file.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let invitation = format!("{} {} {name}", std::process::id(), file.as_raw_fd());
    Ok((file, invitation))
}

/// The memory that an invitation speaks of, if it is found here: a process of another host may have the same number.
fn accept(invitation: &str, size: usize) -> io::Result<File> {
    let mut words = invitation.split(' ');
    let (Some(process), Some(descriptor), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(io::Error::other("the chief has no shared memory"));
    };
    let (Ok(process), Ok(descriptor)) = (process.parse::<u32>(), descriptor.parse::<u32>()) else {
        return Err(io::Error::other("the chief's invitation is none"));
    };
    let path = format!("/proc/{process}/fd/{descriptor}");
    let target = std::fs::read_link(&path)?;
    if target.to_string_lossy() != format!("/memfd:{name} (deleted)") {
        return Err(io::Error::other("the chief is on another host"));
    }
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    match file.metadata()?.len() {
        found if found == size as u64 => Ok(file),
        found => Err(io::Error::other(format!("the chief's shared memory has {found} bytes, {size} were due"))),
    }
}

fn map(file: &File, size: usize) -> io::Result<*mut u8> {
    // SAFETY: a new mapping, of a file that is as large and does not become smaller: its only name is an open descriptor.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}

/// Sleeps for a moment, or until the counter is no longer `seen`.
fn sleep_on(counter: &AtomicU32, seen: u32) {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
    // SAFETY: the counter and the time live through the call. Whatever it answers, the caller looks again.
    unsafe { libc::syscall(libc::SYS_futex, counter.as_ptr(), libc::FUTEX_WAIT, seen, &moment) };
}

fn wake(counter: &AtomicU32) {
    // SAFETY: the counter lives through the call.
    unsafe { libc::syscall(libc::SYS_futex, counter.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// From the system, by way of what keys hash tables.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_with_the_same_number_is_not_taken_for_the_chief() {
        let (file, invitation) = make(2 * PAGE).unwrap();
        assert_eq!(accept(&invitation, 2 * PAGE).unwrap().metadata().unwrap().len(), 2 * PAGE as u64);
        for wrong in [
            String::new(),
            "a b c".to_string(),
            format!("{} {} smack-gradients-0", std::process::id(), file.as_raw_fd()),
            format!("{} {} x", std::process::id(), u32::MAX),
        ] {
            assert!(accept(&wrong, 2 * PAGE).is_err(), "{wrong}");
        }
        let error = accept(&invitation, PAGE).unwrap_err().to_string();
        assert_eq!(error, "the chief's shared memory has 8192 bytes, 4096 were due");
    }

    #[test]
    fn counters_go_round() {
        let counter = AtomicU32::new(1);
        wait(&counter, u32::MAX, || panic!("it has come"), |_, _| panic!("it has come")).unwrap();
        let mut looks = 0;
        let waited = wait(
            &counter,
            2,
            || false,
            |_, _| {
                looks += 1;
                counter.store(2, Ordering::Release);
                Ok(())
            },
        );
        assert!(waited.is_ok() && looks == 1);
    }

    /// What comes right behind the arrival is for later.
    #[test]
    fn news_of_one_that_has_come_say_nothing_of_its_absence() {
        let counter = AtomicU32::new(1);
        let comes_with_news = || {
            counter.store(2, Ordering::Release);
            true
        };
        wait(&counter, 2, comes_with_news, |_, _| panic!("it has come")).unwrap();
    }
}
