//! Copies bytes from JavaScript into a buffer that is reused from picture to picture.

use js_sys::Uint8Array;

/// The most bytes that the buffer keeps between two pictures. A 4K frame (33 MB) is below this.
const KEPT_BYTES: usize = 64 << 20;

/// Copies `bytes` into `buffer` and reuses its memory. The error says that there is not enough memory.
pub fn copy(bytes: &Uint8Array, buffer: &mut Vec<u8>) -> Result<(), String> {
    let length = bytes.length() as usize;
    // Without `try_reserve`, running out of memory would be a trap, and the instance could not be used again.
    buffer
        .try_reserve_exact(length.saturating_sub(buffer.len()))
        .map_err(|_| format!("there is no memory for its {length} bytes"))?;
    buffer.resize(length, 0);
    bytes.copy_to(buffer);
    Ok(())
}

/// Frees the memory of an unusually large picture.
pub fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    }
}
