//! Files within a zip archive, as Keras writes it: without compression.

/// The bytes of a file in an archive.
pub fn file<'a>(archive: &'a [u8], name: &str) -> Result<&'a [u8], String> {
    let cut = || "the archive is cut off, or no zip archive".to_string();
    // The end of the directory is 22 bytes before a comment, which has 65,535 at most.
    let last = archive.len().checked_sub(22).ok_or_else(cut)?;
    let end = (last.saturating_sub(65_535)..=last).rev().find(|at| archive[*at..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or_else(cut)?;
    let mut at = u32_at(archive, end + 16).ok_or_else(cut)?;
    let count = u16_at(archive, end + 10).ok_or_else(cut)?;
    let mut names = Vec::new();
    for _ in 0..count {
        let entry = archive.get(at..).filter(|entry| entry.starts_with(b"PK\x01\x02")).ok_or_else(cut)?;
        let number = |place| u32_at(entry, place).ok_or_else(cut);
        let short = |place| u16_at(entry, place).ok_or_else(cut);
        let [of_name, of_extra, of_comment] = [short(28)?, short(30)?, short(32)?];
        let own = entry.get(46..46 + of_name).ok_or_else(cut)?;
        if own == name.as_bytes() {
            if short(10)? != 0 {
                return Err(format!("'{name}' in the archive is compressed; put it there as Keras does, stored"));
            }
            let (size, header) = (number(20)?, number(42)?);
            let within = archive.get(header..).filter(|header| header.starts_with(b"PK\x03\x04")).ok_or_else(cut)?;
            let skipped = 30 + u16_at(within, 26).ok_or_else(cut)? + u16_at(within, 28).ok_or_else(cut)?;
            return within.get(skipped..skipped + size).ok_or_else(cut);
        }
        names.push(String::from_utf8_lossy(own).into_owned());
        at += 46 + of_name + of_extra + of_comment;
    }
    Err(format!("the archive has no '{name}', only {}", names.join(", ")))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}
