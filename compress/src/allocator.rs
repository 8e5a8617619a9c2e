//! Settings of glibc's allocator for the large tensors of a training.
//!
//! By default glibc requests every large block from the system and returns it when it is freed, above all in threads
//! other than the main one. A training step allocates gigabytes, so a third of its time goes into page faults. With one
//! arena and no limits, freed memory stays in the process and is reused.

/// Variables that glibc reads when a process starts.
const VARIABLES: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    // Bytes from which a block is mapped separately, and bytes of free memory that are returned to the system.
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
];

/// Restarts this program with [`VARIABLES`] in the same process, unless the environment has one of them already. Does
/// nothing if the C library is not glibc or the restart fails: training is only slower then.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if VARIABLES.iter().all(|(name, _)| std::env::var_os(name).is_none())
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let _error = std::process::Command::new(program).args(std::env::args_os().skip(1)).envs(VARIABLES).exec();
    }
}
