//! When and how the files of a chain become one, in the background.
//!
//! Changes that together outweigh their base are folded with it: what is written that way is paid for by what was
//! written since. Light changes are folded among themselves, from the end of the chain on, as soon as many of about one
//! size have come together. So files grow manyfold with each fold, and both their number and how often a byte is written
//! again go with the logarithm of what the base is heavier than a change. Folding costs the processors that rows need, and
//! a restart hardly minds some dozens of files; so there are many to a fold.

use crate::control::StateFile;
use crate::runtime::shared::Shared;
use crate::state::{chain, file};
use bytes::Bytes;

/// So many files of about one size are folded into one. Tests see to it that chains are folded in the few epochs they have.
const ALIKE: usize = if cfg!(test) { 4 } else { 32 };
/// Of about one size are those of which none is heavier than so many times any other.
const SPREAD: u64 = 4;
/// With more changes than so many times as many, of whatever sizes, all of them are folded.
const CHANGES_MAX: usize = 4;
/// Bases smaller than this are no reason to fold.
const BASE_BYTES_MIN: u64 = 64 * 1024;

/// What came of folding.
#[derive(Debug)]
pub struct Folded {
    pub operator: String,
    /// The place in the chain of the first file.
    pub from: usize,
    /// The files that were folded.
    pub names: Vec<String>,
    pub result: Result<StateFile, String>,
}

/// From which file on a chain is to be folded, if it is.
pub fn due(files: &[StateFile]) -> Option<usize> {
    due_by(files, ALIKE)
}

fn due_by(files: &[StateFile], alike: usize) -> Option<usize> {
    let (base, changes) = files.split_first()?;
    if changes.is_empty() {
        return None;
    }
    let changed: u64 = changes.iter().map(|file| file.bytes).sum();
    if changed > base.bytes.max(BASE_BYTES_MIN) {
        return Some(0);
    }
    if changes.len() > CHANGES_MAX * alike {
        return Some(1);
    }
    // The shortest end of the chain with enough files that are of the size of its heaviest one; what is lighter goes along.
    (1..files.len()).rev().find(|from| {
        let end = &files[*from..];
        let heaviest = end.iter().map(|file| file.bytes).max().unwrap_or(0);
        end.len() >= alike && end.iter().filter(|file| file.bytes * SPREAD >= heaviest).count() >= alike
    })
}

/// Reads these files, writes one in their place. `writer`: the end of its name.
pub async fn run(
    shared: &Shared,
    writer: &str,
    operator: String,
    from: usize,
    files: Vec<StateFile>,
    watermark_us: i64,
) -> Folded {
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let result = one_of(shared, writer, &names, watermark_us).await;
    Folded { operator, from, names, result }
}

async fn one_of(shared: &Shared, writer: &str, names: &[String], watermark_us: i64) -> Result<StateFile, String> {
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let bytes = shared.config.checkpoints.get(name).await.map_err(|error| format!("{error}: {}", error.source))?;
        all.push(bytes);
    }
    let fold = move || {
        let files = all.iter().map(|bytes| file::decode(bytes)).collect::<Result<Vec<_>, file::Error>>()?;
        let folded = chain::fold(files, watermark_us, &(0..=u64::MAX))?;
        file::encode(&folded)
    };
    let folded = super::idle::run(fold).await.map_err(|error| format!("start a thread: {error}"))?;
    let folded = folded.ok_or("it panicked")?;
    let bytes = Bytes::from(folded.map_err(|error| error.to_string())?);
    let last = names.last().map(String::as_str).unwrap_or_default();
    let name = name(last, &shared.folder(), writer).ok_or_else(|| format!("{last} is no state file"))?;
    super::put(shared, &name, &bytes).await?;
    Ok(StateFile { name, bytes: bytes.len() as u64 })
}

/// The number in the name is that of the last epoch whose changes are in it; garbage collection goes by it (see
/// [`crate::coordinator::garbage`]).
fn name(last: &str, folder: &str, writer: &str) -> Option<String> {
    let epoch = last.split('/').nth(1)?;
    Some(format!("folds/{epoch}/{folder}/{writer}.state"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(bytes: &[u64]) -> Vec<StateFile> {
        bytes.iter().map(|bytes| StateFile { name: String::new(), bytes: *bytes }).collect()
    }

    #[test]
    fn heavy_changes_are_folded_with_their_base_and_light_ones_among_themselves() {
        const M: u64 = 1_000_000;
        let due = |bytes: &[u64]| due_by(&files(bytes), 32);
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[M]), None);
        assert_eq!(due(&[M, M / 2, M / 2]), None);
        assert_eq!(due(&[M, M / 2, M / 2, 1]), Some(0));
        assert_eq!(due(&[10, 20, 30, 20]), None, "too small to matter");
        let then_light = |before: &[u64], n_light: usize| {
            due(&before.iter().copied().chain(std::iter::repeat_n(9, n_light)).collect::<Vec<_>>())
        };
        assert_eq!(then_light(&[M], 31), None);
        assert_eq!(then_light(&[M], 32), Some(1));
        assert_eq!(then_light(&[M, 60], 32), Some(2));
        assert_eq!(then_light(&[M, 900, 30], 31), Some(2), "of about one size");
        assert_eq!(due(&[&[M][..], &[1_000; 32], &[1, 2, 3]].concat()), Some(1), "with what is lighter");
        assert_eq!(then_light(&[9 * M, M, 90_000, 9_000, 900, 90, 30, 10], 1), None, "few");
        let falling: Vec<u64> = (0..=128_u64).rev().map(|at| 1 << (at / 6)).collect();
        assert_eq!(due(&[&[1 << 40][..], &falling].concat()), Some(1), "too many, of whatever sizes");
        assert_eq!(due(&[&[1 << 40][..], &falling[1..]].concat()), None);
    }

    /// However long a stream runs, chains stay short and files are not written again and again.
    #[test]
    fn chains_stay_short_at_a_small_price() {
        const BASE: u64 = 50_000_000;
        let (mut chain, mut rewritten, n_epochs) = (files(&[BASE]), 0, 20_000_u64);
        for _ in 0..n_epochs {
            chain.extend(files(&[1_000]));
            if let Some(from) = due_by(&chain, 32) {
                let bytes: u64 = chain.drain(from..).map(|file| file.bytes).sum();
                rewritten += bytes;
                chain.extend(files(&[bytes]));
            }
            assert!(chain.len() <= 3 * 32 + 1, "{chain:?}");
        }
        let written = n_epochs * 1_000;
        assert!(rewritten < 3 * written, "{rewritten} for {written}");
    }
}
