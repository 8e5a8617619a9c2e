//! Threads that share a convolution: its rows are the parts of a job, and whoever is free takes the next.
//!
//! Helpers do nothing but `help`: natively on threads of their own, in WebAssembly in workers whose script
//! calls it. They are there for one image at a time and look for parts without ever sleeping in between, for a convolution
//! takes a fraction of a millisecond, and waking somebody does too. Nobody waits for a helper that does not come: what it
//! does not take is left for those who are there.
//!
//! A stable compiler's standard library for WebAssembly is made for one thread. Helpers there must not allocate, lock or
//! use anything thread-local; kernels do none of this.

use core::ops::Range;

/// A pointer that several members of a team use at once, each for elements of its own.
pub(super) struct Apart<T>(*mut T);

// SAFETY: who makes one promises that no element is written by one member and touched by another.
unsafe impl<T: Send> Sync for Apart<T> {}

impl<T> Apart<T> {
    pub(super) fn new(elements: &mut [T]) -> Apart<T> {
        Apart(elements.as_mut_ptr())
    }

    pub(super) fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(not(any(not(target_family = "wasm"), feature = "threads")))]
pub(crate) use alone::Team;
#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
pub(crate) use together::Team;
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use together::{help, round_address};

/// A team of one, for builds without threads.
#[cfg(not(any(not(target_family = "wasm"), feature = "threads")))]
mod alone {
    use super::Range;

    #[derive(Debug, Default)]
    pub(crate) struct Team;

    impl Team {
        pub(crate) fn new(_threads: usize) -> Team {
            Team
        }

        #[expect(clippy::unused_self, reason = "as the other team")]
        pub(crate) fn size(&self) -> usize {
            1
        }

        #[expect(clippy::unused_self, reason = "as the other team")]
        pub(crate) fn gather(&self) {}

        #[expect(clippy::unused_self, reason = "as the other team")]
        #[inline(always)]
        pub(in super::super) fn rows(&self, rows: usize, job: impl Fn(usize, Range<usize>)) {
            job(0, 0..rows);
        }
    }
}

#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
mod together {
    use std::cell::UnsafeCell;
    #[cfg(not(target_family = "wasm"))]
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::{AtomicU32, Ordering::*};
    #[cfg(not(target_family = "wasm"))]
    use std::thread::{self, JoinHandle};

    use super::Range;

    /// The most threads, the caller's own included.
    const MAX_THREADS: usize = 16;

    /// Parts for each member: enough that one who comes late, or has the slower core, holds nobody up for long.
    const PARTS: usize = 4;

    /// Part `1` of a job, done by member `0`.
    type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

    /// What members have in common. WebAssembly's helpers serve whatever their module's one caller does.
    #[cfg(target_family = "wasm")]
    type Common = &'static Shared;
    #[cfg(not(target_family = "wasm"))]
    type Common = std::sync::Arc<Shared>;

    /// The caller and those who help it.
    #[derive(Debug, Default)]
    pub(crate) struct Team {
        /// None for a team of one.
        shared: Option<Common>,
        #[cfg(not(target_family = "wasm"))]
        helpers: Vec<JoinHandle<()>>,
        #[cfg(target_family = "wasm")]
        helpers: usize,
    }

    #[cfg(target_family = "wasm")]
    static SHARED: Shared = Shared::new();

    /// Address of the counter that helpers sleep on, a 32-bit integer that their script makes odd while an image is
    /// worked on.
    #[cfg(target_family = "wasm")]
    pub(crate) fn round_address() -> usize {
        SHARED.round.as_ptr() as usize
    }

    /// Helps until the counter is even again.
    #[cfg(target_family = "wasm")]
    pub(crate) fn help(member: usize) {
        SHARED.help(member);
    }

    #[derive(Debug)]
    struct Shared {
        /// Odd while an image is worked on.
        round: AtomicU32,
        /// Parts of the job that nobody has taken yet.
        left: AtomicU32,
        /// Parts that are done.
        done: AtomicU32,
        /// Somebody panicked over a part; WebAssembly ends there.
        #[cfg(not(target_family = "wasm"))]
        failed: AtomicBool,
        /// No image will come any more.
        #[cfg(not(target_family = "wasm"))]
        over: AtomicBool,
        job: UnsafeCell<Option<*const Job<'static>>>,
    }

    // SAFETY: `job` is written only while no part of a job is left or being done, and read only for a part that was taken.
    unsafe impl Sync for Shared {}
    // SAFETY: the pointer is to something `Sync`.
    unsafe impl Send for Shared {}

    impl Shared {
        const fn new() -> Shared {
            Shared {
                round: AtomicU32::new(0),
                left: AtomicU32::new(0),
                done: AtomicU32::new(0),
                #[cfg(not(target_family = "wasm"))]
                failed: AtomicBool::new(false),
                #[cfg(not(target_family = "wasm"))]
                over: AtomicBool::new(false),
                job: UnsafeCell::new(None),
            }
        }

        /// Does parts of jobs until the image is done with.
        fn help(&self, member: usize) {
            while self.round.load(Acquire) % 2 == 1 {
                self.work(member);
                core::hint::spin_loop();
            }
        }

        /// Does parts of the present job until none is left to take.
        fn work(&self, member: usize) {
            let mut left = self.left.load(Acquire);
            while left > 0 {
                match self.left.compare_exchange_weak(left, left - 1, AcqRel, Acquire) {
                    Ok(_) => {
                        let _done = Part(self);
                        // SAFETY: written before `left` was; the job lasts until all its parts are done, and this one
                        // is not.
                        if let Some(job) = unsafe { *self.job.get() } {
                            // SAFETY: as above.
                            unsafe { (*job)(member, left as usize - 1) };
                        }
                    }
                    Err(now) => {
                        left = now;
                        continue;
                    }
                }
                left = self.left.load(Acquire);
            }
        }
    }

    /// Counts a part as done, also if it panics: the others would wait for it for ever.
    struct Part<'a>(&'a Shared);

    impl Drop for Part<'_> {
        fn drop(&mut self) {
            #[cfg(not(target_family = "wasm"))]
            if thread::panicking() {
                self.0.failed.store(true, Relaxed);
            }
            self.0.done.fetch_add(1, Release);
        }
    }

    /// Ends a job: waits until nobody uses it.
    struct End<'a>(&'a Shared, u32);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            // None is left unless the caller panicked.
            let dropped = self.0.left.swap(0, AcqRel);
            while self.0.done.load(Acquire) + dropped < self.1 {
                core::hint::spin_loop();
            }
        }
    }

    /// An image is worked on until this is dropped.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) struct Gathered<'a>(&'a Team);

    #[cfg(not(target_family = "wasm"))]
    impl Drop for Gathered<'_> {
        fn drop(&mut self) {
            if let Some(shared) = &self.0.shared {
                shared.round.fetch_add(1, Release);
            }
        }
    }

    impl Team {
        /// A team of as many threads, the caller's own included; natively of fewer if the system gives no more. In
        /// WebAssembly the helpers are those who call `help`.
        pub(crate) fn new(threads: usize) -> Team {
            let helpers = threads.clamp(1, MAX_THREADS) - 1;
            if helpers == 0 {
                return Team::default();
            }
            #[cfg(target_family = "wasm")]
            return Team { shared: Some(&SHARED), helpers };
            #[cfg(not(target_family = "wasm"))]
            {
                let shared = Common::new(Shared::new());
                let helpers = (1..=helpers)
                    .map_while(|member| {
                        let shared = shared.clone();
                        let name = format!("micro-yolo {member}");
                        thread::Builder::new().name(name).spawn(move || help_until_over(&shared, member)).ok()
                    })
                    .collect();
                Team { shared: Some(shared), helpers }
            }
        }

        /// Members, the caller included.
        pub(crate) fn size(&self) -> usize {
            #[cfg(not(target_family = "wasm"))]
            return self.helpers.len() + 1;
            #[cfg(target_family = "wasm")]
            return self.helpers + 1;
        }

        /// Has the helpers come for an image. In WebAssembly the package's script does it, before it hands the image over.
        #[cfg(target_family = "wasm")]
        #[expect(clippy::unused_self, reason = "as the native one")]
        pub(crate) fn gather(&self) {}

        /// Has the helpers come for an image, until the answer is dropped.
        #[cfg(not(target_family = "wasm"))]
        pub(crate) fn gather(&self) -> Gathered<'_> {
            if let Some(shared) = &self.shared {
                shared.round.fetch_add(1, Release);
                self.helpers.iter().for_each(|helper| helper.thread().unpark());
            }
            Gathered(self)
        }

        /// Has `job(member, rows)` done for all of `rows`, a few at a time, by whoever is there.
        ///
        /// # Panics
        ///
        /// If a part of the job does.
        pub(in super::super) fn rows(&self, rows: usize, job: impl Fn(usize, Range<usize>) + Sync) {
            // Alone all in one: each cut costs a block of pixels that is not full.
            let parts = rows.min(if self.shared.is_some() { PARTS * self.size() } else { 1 });
            // One form of the job, whoever does it.
            let part = |member: usize, part: usize| job(member, part * rows / parts..(part + 1) * rows / parts);
            let part: &Job<'_> = &part;
            match &self.shared {
                Some(shared) if parts > 1 => shared.run(parts, part),
                _ => (0..parts).for_each(|number| part(0, number)),
            }
        }
    }

    impl Shared {
        fn run(&self, parts: usize, job: &Job<'_>) {
            // SAFETY: the same pointer for longer than it may be used; `End` sees to it that nobody uses it for longer.
            let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
            // SAFETY: no job is under way, for the caller has the team to itself, so that nobody reads.
            unsafe { *self.job.get() = Some(job) };
            self.done.store(0, Relaxed);
            #[cfg(not(target_family = "wasm"))]
            self.failed.store(false, Relaxed);
            self.left.store(parts as u32, Release);
            let end = End(self, parts as u32);
            self.work(0);
            drop(end);
            #[cfg(not(target_family = "wasm"))]
            assert!(!self.failed.load(Relaxed), "a helper panicked");
        }
    }

    #[cfg(not(target_family = "wasm"))]
    fn help_until_over(shared: &Shared, member: usize) {
        while !shared.over.load(Acquire) {
            if shared.round.load(Acquire) % 2 == 1 {
                shared.help(member);
            } else {
                thread::park();
            }
        }
    }

    #[cfg(not(target_family = "wasm"))]
    impl Drop for Team {
        fn drop(&mut self) {
            if let Some(shared) = &self.shared {
                shared.over.store(true, Release);
            }
            for helper in self.helpers.drain(..) {
                helper.thread().unpark();
                // It may have panicked; who ran the job was told.
                let _ = helper.join();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Mutex;

        use super::*;

        #[test]
        fn every_row_is_done_once_whoever_comes() {
            for threads in [1, 2, 3, 5] {
                let team = Team::new(threads);
                assert_eq!(team.size(), threads);
                for rows in [0, 1, 2, 7, 40, 1000] {
                    let done = Mutex::new(vec![0; rows]);
                    let gathered = (rows != 7).then(|| team.gather());
                    for _ in 0..20 {
                        team.rows(rows, |member, part| {
                            assert!(member < threads);
                            part.for_each(|row| done.lock().unwrap()[row] += 1);
                        });
                    }
                    drop(gathered);
                    assert_eq!(done.into_inner().unwrap(), vec![20; rows], "{threads} threads");
                }
            }
        }

        #[test]
        fn helpers_do_their_share() {
            let team = Team::new(2);
            let members = Mutex::new(std::collections::BTreeSet::new());
            let _gathered = team.gather();
            let slow = |member, _: Range<usize>| {
                members.lock().unwrap().insert(member);
                thread::sleep(std::time::Duration::from_millis(5));
            };
            let start = std::time::Instant::now();
            while members.lock().unwrap().len() < 2 && start.elapsed().as_secs() < 60 {
                team.rows(20, slow);
            }
            assert_eq!(members.into_inner().unwrap().len(), 2);
        }

        #[test]
        fn a_panic_is_the_callers_and_hangs_nobody() {
            let team = Team::new(3);
            for _ in 0..3 {
                let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _gathered = team.gather();
                    team.rows(100, |_, part| assert!(!part.contains(&50), "on purpose"));
                }));
                assert!(caught.is_err());
            }
            // The helpers may be gone; the work is done all the same.
            let done = AtomicU32::new(0);
            let _gathered = team.gather();
            team.rows(100, |_, part| {
                done.fetch_add(part.len() as u32, Relaxed);
            });
            assert_eq!(done.into_inner(), 100);
        }
    }
}
