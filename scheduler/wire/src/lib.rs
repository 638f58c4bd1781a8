//! What master, agents, frameworks and tasks say to each other: the messages of `proto/smack/v1` and their gRPC clients
//! and servers, as generated code.
//!
//! Invariant: nothing else lives here. The code under `generated/` is written by the `tidy` test of the `tests` crate
//! (`SMACK_REGENERATE=1 cargo test -p tests --test tidy`), which fails when it differs from the `.proto` files; so
//! building smack needs neither protoc nor a build script.
//! Knows nothing of the domain types: whoever reads a message converts it, and refuses what it cannot.

/// Version 1 of the protocol: package `smack.v1`.
#[expect(unused_qualifications, reason = "generated code spells every path out")]
#[expect(clippy::large_enum_variant, reason = "generated code boxes nothing that it need not")]
pub mod v1 {
    include!("generated/smack.v1.rs");
}

/// The protocol version that this code speaks; the first message of every stream carries it.
pub const PROTOCOL_VERSION: u32 = 1;
