//! Descriptors of messages, from `.proto` text or compiled.
//!
//! Invariant: nothing is read here: all texts are given, and Google's own well-known files are known.

use base64::Engine as _;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::prost::Message as _;
use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};

/// The name of a file that has none.
const UNNAMED: &str = "schema.proto";

/// What descriptors are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Of one `.proto` file, or one compiled file in base64, as registries have it.
    Text(String),
    /// A compiled `FileDescriptorSet`; the last file is the one that is meant.
    Compiled(Vec<u8>),
}

/// The files of a source and what they import, and the file that is meant.
pub fn pool_of(source: &Source, imports: &[(String, String)]) -> Result<(DescriptorPool, FileDescriptor), String> {
    match source {
        Source::Compiled(bytes) => {
            let set =
                FileDescriptorSet::decode(bytes.as_slice()).map_err(|why| format!("is no compiled file: {why}"))?;
            let name = set.file.last().map(|file| file.name().to_owned()).ok_or("holds no file")?;
            let pool = DescriptorPool::from_file_descriptor_set(set)
                .map_err(|why| format!("does not hold together: {why}"))?;
            let file = pool.get_file_by_name(&name).ok_or("holds no file")?;
            Ok((pool, file))
        }
        Source::Text(text) => {
            let mut resolver = ChainFileResolver::new();
            resolver.add(Given::new(text, imports)?);
            resolver.add(GoogleFileResolver::new());
            let mut compiler = protox::Compiler::with_file_resolver(resolver);
            compiler.include_imports(true);
            compiler.open_file(UNNAMED).map_err(|why| format!("does not compile: {}", told(&why)))?;
            let pool = compiler.descriptor_pool();
            let file = pool.get_file_by_name(UNNAMED).ok_or("holds no file")?;
            Ok((pool, file))
        }
    }
}

/// A message with where it stands, and why it is wrong.
fn told(why: &protox::Error) -> String {
    let mut text = why.to_string();
    let mut source = std::error::Error::source(why);
    while let Some(why) = source {
        text = format!("{text}: {why}");
        source = why.source();
    }
    text
}

/// Files that are given as texts.
struct Given(Vec<File>);

impl Given {
    fn new(text: &str, imports: &[(String, String)]) -> Result<Self, String> {
        let named = imports.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let files = named.chain([(UNNAMED, text)]).map(|(name, text)| file(name, text));
        Ok(Self(files.collect::<Result<_, _>>()?))
    }
}

fn file(name: &str, text: &str) -> Result<File, String> {
    // No `.proto` text is base64: it has spaces.
    if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text.trim())
        && !bytes.is_empty()
    {
        let mut proto = protox::prost_reflect::prost_types::FileDescriptorProto::decode(bytes.as_slice())
            .map_err(|why| format!("is no compiled file: {why}"))?;
        proto.name = Some(name.to_owned());
        return Ok(File::from_file_descriptor_proto(proto));
    }
    File::from_source(name, text).map_err(|why| format!("does not compile: {}", told(&why)))
}

impl FileResolver for Given {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.0.iter().find(|file| file.name() == name).cloned().ok_or_else(|| protox::Error::file_not_found(name))
    }
}

/// A compiled file as registries take it.
pub fn base64_of(file: &FileDescriptor) -> String {
    base64::engine::general_purpose::STANDARD.encode(file.encode_to_vec())
}

/// The message at a place: that of a file, one within it, and so on.
pub fn message_at(file: &FileDescriptor, indexes: &[usize]) -> Option<MessageDescriptor> {
    let (first, rest) = indexes.split_first()?;
    let mut message = file.messages().nth(*first)?;
    for index in rest {
        let within = message.child_messages().nth(*index)?;
        message = within;
    }
    Some(message)
}

/// Where a message stands in its file.
pub fn place_of(message: &MessageDescriptor) -> Vec<usize> {
    let mut place = Vec::new();
    let mut message = message.clone();
    while let Some(parent) = message.parent_message() {
        place.extend(parent.child_messages().position(|child| child == message));
        message = parent;
    }
    place.extend(message.parent_file().messages().position(|other| other == message));
    place.reverse();
    place
}
