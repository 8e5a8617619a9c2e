//! The log of a run, one JSON value per line, with recovery after an interruption.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// An open log. When [`Journal::write`] returns, the whole line is on the disk.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens or creates the log and returns its lines. A last line truncated by a kill or a full disk is removed.
    ///
    /// Until the journal is dropped, no other one can open the file: two runs would overwrite each other's results.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, another process has it open, or a line other than the last does not parse as
    /// `T`.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Journal, Vec<T>)> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io(path))?;
        lock(&file).map_err(Error::io(path))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::io(path))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines().map(|line| serde_json::from_str(line).map_err(Error::json(path)));
        let lines = lines.collect::<Result<Vec<T>>>()?;
        file.set_len(whole as u64).map_err(Error::io(path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        Ok((Journal { file, path: path.to_owned() }, lines))
    }

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], such as a full disk.
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).map_err(Error::json(&self.path))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(Error::io(&self.path))?;
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// Locks a file until it is closed. Not on Windows, where nobody could read it meanwhile, nor on file systems without
/// locks.
fn lock(file: &File) -> io::Result<()> {
    if cfg!(not(windows)) && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        let problem = "another process works in this folder: wait for its end, or take another folder";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, problem));
    }
    Ok(())
}

/// The lines of a log, without opening it for writing.
///
/// # Errors
///
/// As [`Journal::open`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(|line| serde_json::from_str(line).map_err(Error::json(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_short_is_taken_off_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        std::fs::write(&path, "1\n22\n33").unwrap();
        let (mut journal, lines) = Journal::open::<u32>(&path).unwrap();
        assert_eq!(lines, [1, 22]);
        journal.write(&444).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n22\n444\n");
        assert_eq!(read::<u32>(&path).unwrap(), [1, 22, 444]);
    }

    #[cfg(not(windows))]
    #[test]
    fn a_log_has_one_writer_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let (mut journal, _) = Journal::open::<u32>(&path).unwrap();
        let error = Journal::open::<u32>(&path).unwrap_err().to_string();
        assert!(error.contains("log.jsonl") && error.contains("another process"), "{error}");
        journal.write(&1).unwrap();
        assert_eq!(read::<u32>(&path).unwrap(), [1]);
        drop(journal);
        assert_eq!(Journal::open::<u32>(&path).unwrap().1, [1]);
    }

    #[test]
    fn a_foreign_line_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        std::fs::write(&path, "1\n\"two\"\n3\n").unwrap();
        assert!(matches!(Journal::open::<u32>(&path), Err(Error::Json { .. })));
    }
}
