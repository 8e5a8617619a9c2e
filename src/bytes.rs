//! Bytes of JavaScript in a buffer that is used again from picture to picture.

use js_sys::Uint8Array;

/// What a buffer may keep between two pictures: a 4K frame still is.
const KEPT_BYTES: usize = 64 << 20;

/// Copies `bytes` into `buffer`, whose memory is used again, or says that there is not enough.
pub fn copy(bytes: &Uint8Array, buffer: &mut Vec<u8>) -> Result<(), String> {
    let length = bytes.length() as usize;
    // Running out of memory would otherwise be a trap, after which the whole instance is lost.
    buffer
        .try_reserve_exact(length.saturating_sub(buffer.len()))
        .map_err(|_| format!("there is no memory for its {length} bytes"))?;
    buffer.resize(length, 0);
    bytes.copy_to(buffer);
    Ok(())
}

/// Gives the memory of an unusually large picture back.
pub fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    }
}
