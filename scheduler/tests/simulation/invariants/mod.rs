//! What must hold in every cluster, one promise to a file. Each watches from outside: it sees what is said and done,
//! not what the machines think.

pub mod all_or_none;
pub mod books;
pub mod fairness;
pub mod lent;
pub mod no_starvation;
pub mod nothing_forgotten;
pub mod placed;
pub mod preemption;
pub mod quota;
pub mod reserved;
pub mod room;
pub mod started_once;
pub mod updates;
pub mod volumes;
pub mod watched;
pub mod where_it_may;
pub mod windows;
