//! Which columns a table of Nexmark events can have, and what each declared one stands for.
//!
//! Invariant: names match without regard to case; a type is taken as declared or refused, never converted.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use jobs::Diagnostic;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

impl Kind {
    pub const EACH: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    /// How many events there are of all kinds until the pattern of kinds begins anew.
    pub const PATTERN: u64 = 50;

    /// The kind of an event.
    pub fn of(number: u64) -> Self {
        match number % Self::PATTERN {
            0 => Self::Person,
            1..4 => Self::Auction,
            _ => Self::Bid,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }

    /// Its columns; the order is that in which [`super::gather::Columns`] takes their values.
    pub fn columns(self) -> &'static [(&'static str, Type)] {
        use Type::{Long, Text, Time};
        match self {
            Self::Person => &[
                ("id", Long),
                ("name", Text),
                ("emailAddress", Text),
                ("creditCard", Text),
                ("city", Text),
                ("state", Text),
                ("extra", Text),
                (TIME, Time),
            ],
            Self::Auction => &[
                ("id", Long),
                ("itemName", Text),
                ("description", Text),
                ("initialBid", Long),
                ("reserve", Long),
                ("expires", Time),
                ("seller", Long),
                ("category", Long),
                ("extra", Text),
                (TIME, Time),
            ],
            Self::Bid => &[
                ("auction", Long),
                ("bidder", Long),
                ("price", Long),
                ("channel", Text),
                ("url", Text),
                ("extra", Text),
                (TIME, Time),
            ],
        }
    }
}

/// The column of event time, which needs no event to be made.
const TIME: &str = "dateTime";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Long,
    Text,
    Time,
}

impl Type {
    fn fits(self, declared: &DataType) -> bool {
        *declared == self.data_type()
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Long => DataType::Int64,
            Self::Text => DataType::Utf8,
            Self::Time => time(),
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Long => "BIGINT",
            Self::Text => "VARCHAR",
            Self::Time => "TIMESTAMP",
        }
    }
}

pub fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// What a table gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One(Kind),
    All,
}

/// What a declared column stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    EventType,
    Time,
    /// Column of a kind, by its place.
    Flat(Kind, usize),
    /// The declared fields, and the places of what they stand for; `None` is event time.
    Struct(Kind, Fields, Vec<Option<usize>>),
}

impl Shape {
    pub fn gives(self, kind: Kind) -> bool {
        match self {
            Self::One(only) => only == kind,
            Self::All => true,
        }
    }

    /// All that a table can have.
    pub fn columns(self) -> Vec<(String, DataType)> {
        let of = |kind: Kind| kind.columns().iter().map(|(name, of)| (name.to_string(), of.data_type()));
        match self {
            Self::One(kind) => of(kind).collect(),
            Self::All => {
                let whole = |kind: Kind| {
                    let fields = of(kind).map(|(name, of)| Field::new(name, of, true));
                    (kind.name().to_owned(), DataType::Struct(fields.collect()))
                };
                let kinds = Kind::EACH.into_iter().map(whole);
                let first = [("event_type".to_owned(), DataType::Int32)].into_iter();
                first.chain(kinds).chain([(TIME.to_owned(), time())]).collect()
            }
        }
    }

    pub fn output(self, field: &Field) -> Result<Output, Diagnostic> {
        match self {
            Self::One(kind) => Ok(match place(kind, field, "")? {
                Some(at) => Output::Flat(kind, at),
                None => Output::Time,
            }),
            Self::All => of_all(field),
        }
    }
}

fn of_all(field: &Field) -> Result<Output, Diagnostic> {
    let (name, declared) = (field.name(), field.data_type());
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    if is("event_type") {
        return if *declared == DataType::Int32 {
            Ok(Output::EventType)
        } else {
            Err(wrong_type(name, declared, "INT"))
        };
    }
    if is(TIME) {
        return if *declared == time() { Ok(Output::Time) } else { Err(wrong_type(name, declared, "TIMESTAMP")) };
    }
    let Some(kind) = Kind::EACH.into_iter().find(|kind| is(kind.name())) else {
        let known = ["event_type", "person", "auction", "bid", TIME];
        let error =
            Diagnostic::new(format!("connector 'nexmark' has no column '{name}' unless option 'kind' names one"));
        return Err(error.suggest(name, known));
    };
    match declared {
        DataType::Struct(fields) => {
            let prefix = format!("{name}.");
            let places = fields.iter().map(|field| place(kind, field, &prefix)).collect::<Result<_, _>>()?;
            Ok(Output::Struct(kind, fields.clone(), places))
        }
        other => {
            let parts: Vec<String> =
                kind.columns().iter().map(|(name, kind)| format!("{name} {}", kind.sql())).collect();
            Err(wrong_type(name, other, &format!("STRUCT<{}>", parts.join(", "))))
        }
    }
}

/// The place of a column among those of its kind; `None` is event time.
fn place(kind: Kind, field: &Field, prefix: &str) -> Result<Option<usize>, Diagnostic> {
    let name = field.name();
    let columns = kind.columns();
    let Some(at) = columns.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)) else {
        let what = kind.name();
        return Err(Diagnostic::new(format!(
            "connector 'nexmark' has no column '{prefix}{name}': kind '{what}' lacks it"
        ))
        .suggest(name, columns.iter().map(|(known, _)| *known)));
    };
    let (known, wanted) = columns[at];
    if !wanted.fits(field.data_type()) {
        return Err(wrong_type(&format!("{prefix}{name}"), field.data_type(), wanted.sql()));
    }
    Ok((known != TIME).then_some(at))
}

fn wrong_type(name: &str, declared: &DataType, gives: &str) -> Diagnostic {
    let declared = match declared {
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Utf8 => "VARCHAR".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Timestamp(..) => "TIMESTAMP".to_owned(),
        other => other.to_string(),
    };
    Diagnostic::new(format!("column '{name}' is declared as {declared}, and connector 'nexmark' gives {gives}"))
}
