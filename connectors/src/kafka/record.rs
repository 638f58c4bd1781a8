//! What is written of one row.

use super::metadata::Place;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    /// A record without a value is a tombstone.
    pub value: Option<&'a [u8]>,
    pub place: Place<'a>,
}

impl<'a> Record<'a> {
    /// One that goes where its key sends it, in the table's own topic.
    pub fn plain(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { key, value, place: Place::default() }
    }
}
