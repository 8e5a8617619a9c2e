//! A thread pool for convolutions. A job's rows are split into chunks, and each thread takes the next one when it is free.
//!
//! A worker only runs chunks: natively on a thread of its own, in WebAssembly in a web worker whose script calls
//! `help`. Workers are woken for one image at a time and spin between its jobs, because a convolution takes a fraction
//! of a millisecond, and so does waking a thread. The caller does not wait for workers that are late: the threads that
//! are awake run all chunks.
//!
//! In a stable toolchain, the standard library for WebAssembly is compiled for one thread. Workers there must not
//! allocate, lock or use thread-local storage. Kernels do none of this.

use core::ops::Range;

/// A pointer that the threads of a pool share. Each thread accesses its own elements.
pub(super) struct SendPtr<T>(*mut T);

// SAFETY: whoever makes one ensures that no element is written by one thread and accessed by another.
unsafe impl<T: Send> Sync for SendPtr<T> {}

impl<T> SendPtr<T> {
    pub(super) fn new(elements: &mut [T]) -> SendPtr<T> {
        SendPtr(elements.as_mut_ptr())
    }

    pub(super) fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(not(any(not(target_family = "wasm"), feature = "threads")))]
pub(crate) use single::ThreadPool;
#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
pub(crate) use threaded::ThreadPool;
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use threaded::{help, round_address};

/// A pool with only the caller, for builds without threads.
#[cfg(not(any(not(target_family = "wasm"), feature = "threads")))]
mod single {
    use super::Range;

    #[derive(Debug, Default)]
    pub(crate) struct ThreadPool;

    impl ThreadPool {
        pub(crate) fn new(_threads: usize) -> ThreadPool {
            ThreadPool
        }

        #[expect(clippy::unused_self, reason = "as the other pool")]
        pub(crate) fn threads(&self) -> usize {
            1
        }

        #[expect(clippy::unused_self, reason = "as the other pool")]
        pub(crate) fn wake(&self) {}

        #[expect(clippy::unused_self, reason = "as the other pool")]
        #[inline(always)]
        pub(in super::super) fn run_rows(&self, rows: usize, job: impl Fn(usize, Range<usize>)) {
            job(0, 0..rows);
        }
    }
}

/// The maximum number of threads, the caller's own included.
pub(crate) const MAX_THREADS: usize = 16;

#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
mod threaded {
    use std::cell::UnsafeCell;
    #[cfg(not(target_family = "wasm"))]
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
    #[cfg(not(target_family = "wasm"))]
    use std::thread::{self, JoinHandle};

    use super::Range;

    /// Chunks per thread: enough that the other threads wait little for one that starts late or has a slower core.
    const CHUNKS: usize = 4;

    /// Runs a chunk, given the number of the thread and of the chunk.
    type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

    /// The state that all threads share. In WebAssembly, workers serve the only pool of their module.
    #[cfg(target_family = "wasm")]
    type SharedRef = &'static Shared;
    #[cfg(not(target_family = "wasm"))]
    type SharedRef = std::sync::Arc<Shared>;

    /// The calling thread and its workers.
    #[derive(Debug, Default)]
    pub(crate) struct ThreadPool {
        /// `None` if the pool has only the caller.
        shared: Option<SharedRef>,
        #[cfg(not(target_family = "wasm"))]
        workers: Vec<JoinHandle<()>>,
        #[cfg(target_family = "wasm")]
        workers: usize,
    }

    #[cfg(target_family = "wasm")]
    static SHARED: Shared = Shared::new();

    /// Address of the counter on which workers sleep: a 32-bit integer that their script makes odd while an image is
    /// processed.
    #[cfg(target_family = "wasm")]
    pub(crate) fn round_address() -> usize {
        SHARED.round.as_ptr() as usize
    }

    /// Runs chunks until the counter is even. Does nothing for a number that is the caller's own or not in the pool.
    #[cfg(target_family = "wasm")]
    pub(crate) fn help(thread: usize) {
        if thread > 0 {
            SHARED.help(thread);
        }
    }

    #[derive(Debug)]
    struct Shared {
        /// Odd while an image is processed.
        round: AtomicU32,
        /// The number of threads for which the job has memory. In WebAssembly a script numbers the threads, and a
        /// larger number would write into the memory of others.
        threads: AtomicUsize,
        /// Chunks of the job that no thread has taken yet.
        left: AtomicU32,
        /// Chunks that are done.
        done: AtomicU32,
        /// A chunk panicked; in WebAssembly that ends the program.
        #[cfg(not(target_family = "wasm"))]
        failed: AtomicBool,
        /// Set when no further image will come.
        #[cfg(not(target_family = "wasm"))]
        shutdown: AtomicBool,
        job: UnsafeCell<Option<*const Job<'static>>>,
    }

    // SAFETY: `job` is written only while no chunk of a job is left or running, and read only for a chunk that was
    // taken.
    unsafe impl Sync for Shared {}
    // SAFETY: the pointer points to something `Sync`.
    unsafe impl Send for Shared {}

    impl Shared {
        const fn new() -> Shared {
            Shared {
                round: AtomicU32::new(0),
                threads: AtomicUsize::new(0),
                left: AtomicU32::new(0),
                done: AtomicU32::new(0),
                #[cfg(not(target_family = "wasm"))]
                failed: AtomicBool::new(false),
                #[cfg(not(target_family = "wasm"))]
                shutdown: AtomicBool::new(false),
                job: UnsafeCell::new(None),
            }
        }

        /// Runs chunks of jobs until the image is done.
        fn help(&self, thread: usize) {
            while self.round.load(Acquire) % 2 == 1 {
                self.work(thread);
                core::hint::spin_loop();
            }
        }

        /// Runs chunks of the current job until none is left to take.
        fn work(&self, thread: usize) {
            let mut left = self.left.load(Acquire);
            // `threads` was written before `left`.
            while left > 0 && thread < self.threads.load(Relaxed) {
                match self.left.compare_exchange_weak(left, left - 1, AcqRel, Acquire) {
                    Ok(_) => {
                        let _done = Chunk(self);
                        // SAFETY: `job` was written before `left`. The job exists until all its chunks are done, and
                        // this chunk is not done.
                        if let Some(job) = unsafe { *self.job.get() } {
                            // SAFETY: as above.
                            unsafe { (*job)(thread, left as usize - 1) };
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

    /// Counts a chunk as done even if it panics. Otherwise the caller would wait for ever.
    struct Chunk<'a>(&'a Shared);

    impl Drop for Chunk<'_> {
        fn drop(&mut self) {
            #[cfg(not(target_family = "wasm"))]
            if thread::panicking() {
                self.0.failed.store(true, Relaxed);
            }
            self.0.done.fetch_add(1, Release);
        }
    }

    /// Ends a job: waits until no thread uses it.
    struct End<'a>(&'a Shared, u32);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            // Chunks are left only if the caller panicked.
            let dropped = self.0.left.swap(0, AcqRel);
            while self.0.done.load(Acquire) + dropped < self.1 {
                core::hint::spin_loop();
            }
        }
    }

    /// While this exists, an image is processed.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) struct Awake<'a>(&'a ThreadPool);

    #[cfg(not(target_family = "wasm"))]
    impl Drop for Awake<'_> {
        fn drop(&mut self) {
            if let Some(shared) = &self.0.shared {
                shared.round.fetch_add(1, Release);
            }
        }
    }

    impl ThreadPool {
        /// A pool of this many threads, the caller's own included. Natively it has fewer if the system does not provide
        /// them. In WebAssembly the workers are the callers of `help`.
        pub(crate) fn new(threads: usize) -> ThreadPool {
            let workers = threads.clamp(1, super::MAX_THREADS) - 1;
            if workers == 0 {
                return ThreadPool::default();
            }
            #[cfg(target_family = "wasm")]
            return ThreadPool { shared: Some(&SHARED), workers };
            #[cfg(not(target_family = "wasm"))]
            {
                let shared = SharedRef::new(Shared::new());
                let workers = (1..=workers)
                    .map_while(|thread| {
                        let shared = shared.clone();
                        let name = format!("micro-yolo {thread}");
                        thread::Builder::new().name(name).spawn(move || serve(&shared, thread)).ok()
                    })
                    .collect();
                ThreadPool { shared: Some(shared), workers }
            }
        }

        /// Threads, the caller included.
        pub(crate) fn threads(&self) -> usize {
            #[cfg(not(target_family = "wasm"))]
            return self.workers.len() + 1;
            #[cfg(target_family = "wasm")]
            return self.workers + 1;
        }

        /// Wakes the workers for an image. In WebAssembly the package's script does this before it passes the image on.
        #[cfg(target_family = "wasm")]
        #[expect(clippy::unused_self, reason = "as the native one")]
        pub(crate) fn wake(&self) {}

        /// Wakes the workers for an image, until the returned value is dropped.
        #[cfg(not(target_family = "wasm"))]
        pub(crate) fn wake(&self) -> Awake<'_> {
            if let Some(shared) = &self.shared {
                shared.round.fetch_add(1, Release);
                self.workers.iter().for_each(|worker| worker.thread().unpark());
            }
            Awake(self)
        }

        /// Runs `job(thread, range)` over `0..rows`, in chunks that the pool's threads take when they are free.
        ///
        /// # Panics
        ///
        /// If a chunk of the job panics.
        pub(in super::super) fn run_rows(&self, rows: usize, job: impl Fn(usize, Range<usize>) + Sync) {
            // One chunk if there is one thread: each split costs a block of pixels that is not full.
            let chunks = rows.min(if self.shared.is_some() { CHUNKS * self.threads() } else { 1 });
            // One closure for the caller and the workers, so that the job's code exists once.
            let chunk =
                |thread: usize, chunk: usize| job(thread, chunk * rows / chunks..(chunk + 1) * rows / chunks);
            let chunk: &Job<'_> = &chunk;
            match &self.shared {
                Some(shared) if chunks > 1 => shared.run(self.threads(), chunks, chunk),
                _ => (0..chunks).for_each(|number| chunk(0, number)),
            }
        }
    }

    impl Shared {
        fn run(&self, threads: usize, chunks: usize, job: &Job<'_>) {
            // SAFETY: only the lifetime changes; `End` waits until no thread uses the pointer.
            let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
            // SAFETY: no thread reads it, since no job is running: the caller has exclusive access to the pool.
            unsafe { *self.job.get() = Some(job) };
            self.done.store(0, Relaxed);
            self.threads.store(threads, Relaxed);
            #[cfg(not(target_family = "wasm"))]
            self.failed.store(false, Relaxed);
            self.left.store(chunks as u32, Release);
            let end = End(self, chunks as u32);
            self.work(0);
            drop(end);
            #[cfg(not(target_family = "wasm"))]
            assert!(!self.failed.load(Relaxed), "a worker panicked");
        }
    }

    #[cfg(not(target_family = "wasm"))]
    fn serve(shared: &Shared, thread: usize) {
        while !shared.shutdown.load(Acquire) {
            if shared.round.load(Acquire) % 2 == 1 {
                shared.help(thread);
            } else {
                thread::park();
            }
        }
    }

    #[cfg(not(target_family = "wasm"))]
    impl Drop for ThreadPool {
        fn drop(&mut self) {
            if let Some(shared) = &self.shared {
                shared.shutdown.store(true, Release);
            }
            for worker in self.workers.drain(..) {
                worker.thread().unpark();
                // A worker may have panicked, which `run` has reported.
                let _ = worker.join();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Mutex;

        use super::*;

        #[test]
        fn every_row_is_done_once_on_any_number_of_threads() {
            for threads in [1, 2, 3, 5] {
                let pool = ThreadPool::new(threads);
                assert_eq!(pool.threads(), threads);
                for rows in [0, 1, 2, 7, 40, 1000] {
                    let done = Mutex::new(vec![0; rows]);
                    let awake = (rows != 7).then(|| pool.wake());
                    for _ in 0..20 {
                        pool.run_rows(rows, |thread, chunk| {
                            assert!(thread < threads);
                            chunk.for_each(|row| done.lock().unwrap()[row] += 1);
                        });
                    }
                    drop(awake);
                    assert_eq!(done.into_inner().unwrap(), vec![20; rows], "{threads} threads");
                }
            }
        }

        #[test]
        fn a_number_that_is_none_of_the_threads_gets_no_chunk() {
            let pool = ThreadPool::new(2);
            let threads = Mutex::new(std::collections::BTreeSet::new());
            pool.run_rows(100, |thread, _| {
                threads.lock().unwrap().insert(thread);
                // Chunks are left, and a caller uses a thread number that the pool does not have.
                pool.shared.as_ref().unwrap().work(2);
            });
            assert!(threads.into_inner().unwrap().into_iter().all(|thread| thread < 2));
        }

        #[test]
        fn workers_do_their_share() {
            let pool = ThreadPool::new(2);
            let threads = Mutex::new(std::collections::BTreeSet::new());
            let _awake = pool.wake();
            let slow = |thread, _: Range<usize>| {
                threads.lock().unwrap().insert(thread);
                thread::sleep(std::time::Duration::from_millis(5));
            };
            let start = std::time::Instant::now();
            while threads.lock().unwrap().len() < 2 && start.elapsed().as_secs() < 60 {
                pool.run_rows(20, slow);
            }
            assert_eq!(threads.into_inner().unwrap().len(), 2);
        }

        #[test]
        fn a_panic_reaches_the_caller_and_nothing_hangs() {
            let pool = ThreadPool::new(3);
            for _ in 0..3 {
                let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _awake = pool.wake();
                    pool.run_rows(100, |_, chunk| assert!(!chunk.contains(&50), "on purpose"));
                }));
                assert!(caught.is_err());
            }
            // The workers may have ended, but the work is done.
            let done = AtomicU32::new(0);
            let _awake = pool.wake();
            pool.run_rows(100, |_, chunk| {
                done.fetch_add(chunk.len() as u32, Relaxed);
            });
            assert_eq!(done.into_inner(), 100);
        }
    }
}
