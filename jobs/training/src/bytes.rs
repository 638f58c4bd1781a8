//! Numbers as the bytes that files and frames carry: little-endian, without a copy where memory already looks so.

#[cfg(target_endian = "big")]
compile_error!("weights travel as little-endian memory; a big-endian machine needs a conversion here");

pub fn of_f32(values: &[f32]) -> &[u8] {
    // SAFETY: every bit pattern of an f32 is four valid bytes, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

pub fn of_f32_mut(values: &mut [f32]) -> &mut [u8] {
    // SAFETY: as above, and any four bytes are a valid f32.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

pub fn of_u32(values: &[u32]) -> &[u8] {
    // SAFETY: every bit pattern of a u32 is four valid bytes, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Bytes from a file or a peer, which may lie unaligned; a tail of less than four bytes is the caller's defect.
pub fn to_f32(bytes: &[u8]) -> Vec<f32> {
    assert_eq!(bytes.len() % 4, 0, "bytes of whole numbers");
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

pub fn to_u32(bytes: &[u8]) -> Vec<u32> {
    assert_eq!(bytes.len() % 4, 0, "bytes of whole numbers");
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}
