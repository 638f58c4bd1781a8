//! Functions of text that Flink's dialect has and DataFusion lacks: `count_char`, `split_index`, `regexp_extract`.
//!
//! Invariant: a null among the arguments gives null. What depends on an argument that is alike for all rows is worked
//! out once per batch.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use regex::{CaptureLocations, Regex};
use std::cell::RefCell;
use std::sync::Arc;

/// All functions of this file.
pub(crate) fn text_functions() -> [ScalarUDF; 3] {
    use DataType::{Int64, Utf8};
    let exact = |types: &[DataType]| TypeSignature::Exact(types.to_vec());
    let one_of = |of: Vec<TypeSignature>| Signature::one_of(of, Volatility::Immutable);
    [
        ScalarUDF::new_from_impl(TextFunction {
            which: Which::CountChar,
            signature: one_of(vec![exact(&[Utf8, Utf8])]),
        }),
        ScalarUDF::new_from_impl(TextFunction {
            which: Which::SplitIndex,
            signature: one_of(vec![exact(&[Utf8, Utf8, Int64])]),
        }),
        ScalarUDF::new_from_impl(TextFunction {
            which: Which::RegexpExtract,
            signature: one_of(vec![exact(&[Utf8, Utf8]), exact(&[Utf8, Utf8, Int64])]),
        }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// `count_char(text, char)`: how often a character occurs.
    CountChar,
    /// `split_index(text, delimiter, n)`: what stands between delimiters, counted from 0; null where there is no such
    /// part. An empty text has no parts, and an empty delimiter splits nothing.
    SplitIndex,
    /// `regexp_extract(text, regex [, group])`: of the first match the whole, or a group of it; null without a match.
    RegexpExtract,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextFunction {
    which: Which,
    signature: Signature,
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        match self.which {
            Which::CountChar => "count_char",
            Which::SplitIndex => "split_index",
            Which::RegexpExtract => "regexp_extract",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.which {
            Which::CountChar => DataType::Int64,
            Which::SplitIndex | Which::RegexpExtract => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (text, word, number) = match args.args.as_slice() {
            [text, word] => (text, word, None),
            [text, word, number] => (text, word, Some(number)),
            other => return exec_err!("{} takes two or three arguments, not {}", self.name(), other.len()),
        };
        let text = text.to_array(args.number_rows)?;
        let word = Argument::of(word)?;
        let number = number.map(|number| number.to_array(args.number_rows)).transpose()?;
        let rows = Rows { text: text.as_string(), word, number: number.as_ref().map(|array| array.as_primitive()) };
        let answer: ArrayRef = match self.which {
            Which::CountChar => Arc::new(rows.count_char()?),
            Which::SplitIndex => Arc::new(rows.split_index()),
            Which::RegexpExtract => Arc::new(rows.regexp_extract()?),
        };
        Ok(ColumnarValue::Array(answer))
    }
}

/// A text that is mostly the same for all rows.
enum Argument {
    Same(StringArray),
    PerRow(StringArray),
}

impl Argument {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => Self::Same(scalar.to_array()?.as_string::<i32>().clone()),
            ColumnarValue::Array(array) => Self::PerRow(array.as_string::<i32>().clone()),
        })
    }

    fn at(&self, row: usize) -> Option<&str> {
        let (array, row) = match self {
            Self::Same(array) => (array, 0),
            Self::PerRow(array) => (array, row),
        };
        array.is_valid(row).then(|| array.value(row))
    }
}

struct Rows<'a> {
    text: &'a StringArray,
    word: Argument,
    number: Option<&'a Int64Array>,
}

impl Rows<'_> {
    fn count_char(&self) -> Result<Int64Array> {
        let mut counts = Vec::with_capacity(self.text.len());
        for (row, text) in self.text.iter().enumerate() {
            let (Some(text), Some(word)) = (text, self.word.at(row)) else {
                counts.push(None);
                continue;
            };
            let mut chars = word.chars();
            let (Some(wanted), None) = (chars.next(), chars.next()) else {
                return exec_err!("count_char counts one character, and '{word}' is not one");
            };
            let count = match u8::try_from(wanted) {
                // A byte of ASCII stands for itself wherever it stands.
                Ok(byte) if byte.is_ascii() => text.bytes().filter(|found| *found == byte).count(),
                _ => text.chars().filter(|found| *found == wanted).count(),
            };
            counts.push(Some(count as i64));
        }
        Ok(Int64Array::from(counts))
    }

    fn split_index(&self) -> StringArray {
        let mut parts = StringBuilder::with_capacity(self.text.len(), self.text.len() * 8);
        for (row, text) in self.text.iter().enumerate() {
            let n = self.number.filter(|numbers| numbers.is_valid(row)).map(|numbers| numbers.value(row));
            let part = match (text, self.word.at(row), n.map(usize::try_from)) {
                (Some(text), Some(delimiter), Some(Ok(n))) if !text.is_empty() => part(text, delimiter, n),
                _ => None,
            };
            parts.append_option(part);
        }
        parts.finish()
    }

    fn regexp_extract(&self) -> Result<StringArray> {
        let mut parts = StringBuilder::with_capacity(self.text.len(), self.text.len() * 8);
        let mut known: Option<(String, Pattern)> = None;
        for (row, text) in self.text.iter().enumerate() {
            let group = match self.number {
                None => Some(0),
                Some(numbers) => numbers.is_valid(row).then(|| numbers.value(row)),
            };
            let (Some(text), Some(regex), Some(group)) = (text, self.word.at(row), group) else {
                parts.append_null();
                continue;
            };
            if known.as_ref().is_none_or(|(written, _)| written != regex) {
                known = Some((regex.to_owned(), Pattern::new(regex)?));
            }
            if let Some((_, pattern)) = &mut known {
                parts.append_option(pattern.extract(text, group)?);
            }
        }
        Ok(parts.finish())
    }
}

fn part<'t>(text: &'t str, delimiter: &str, n: usize) -> Option<&'t str> {
    let mut chars = delimiter.chars();
    match (chars.next(), chars.next()) {
        (None, _) => (n == 0).then_some(text),
        // Searching one character is several times as quick as searching a text.
        (Some(one), None) => text.split(one).nth(n),
        _ => text.split(delimiter).nth(n),
    }
}

struct Pattern {
    regex: Regex,
    found: CaptureLocations,
}

thread_local! {
    /// The last regular expression of this thread: compiling one costs as much as some thousand rows.
    static LAST: RefCell<Option<Regex>> = const { RefCell::new(None) };
}

impl Pattern {
    fn new(written: &str) -> Result<Self> {
        let regex = LAST.with_borrow_mut(|last| match last {
            Some(regex) if regex.as_str() == written => Ok(regex.clone()),
            _ => {
                let regex = Regex::new(written)
                    .map_err(|why| exec_datafusion_err!("'{written}' is no regular expression: {why}"))?;
                *last = Some(regex.clone());
                Ok::<_, datafusion::common::DataFusionError>(regex)
            }
        })?;
        let found = regex.capture_locations();
        Ok(Self { regex, found })
    }

    fn extract<'t>(&mut self, text: &'t str, group: i64) -> Result<Option<&'t str>> {
        let group = match usize::try_from(group) {
            Ok(group) if group < self.found.len() => group,
            _ => {
                let n = self.found.len() - 1;
                return exec_err!("regexp_extract asks for group {group}, and '{}' has {n}", self.regex.as_str());
            }
        };
        if group == 0 {
            return Ok(self.regex.find(text).map(|found| found.as_str()));
        }
        let matches = self.regex.captures_read(&mut self.found, text).is_some();
        Ok(if matches { self.found.get(group).map(|(from, to)| &text[from..to]) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Int64Type};
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;
    use proptest::prelude::*;

    fn call(which: Which, args: Vec<ColumnarValue>, rows: usize) -> Result<ArrayRef> {
        let function = text_functions().into_iter().nth(which as usize).unwrap();
        let arg_fields = args.iter().map(|arg| Arc::new(Field::new("", arg.data_type(), true))).collect();
        let return_field = Arc::new(Field::new("", function.return_type(&[]).unwrap(), true));
        let config_options = Arc::new(ConfigOptions::default());
        let args = ScalarFunctionArgs { args, arg_fields, number_rows: rows, return_field, config_options };
        function.invoke_with_args(args)?.into_array(rows)
    }

    fn texts(values: &[Option<&str>]) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())))
    }

    fn text(value: &str) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.to_owned())))
    }

    fn number(value: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))
    }

    fn strings(array: &ArrayRef) -> Vec<Option<&str>> {
        array.as_string::<i32>().iter().collect()
    }

    #[test]
    fn characters_are_counted() {
        let rows = texts(&[Some("banana"), Some(""), None, Some("żaż")]);
        let counts = |of: &str| {
            let counts = call(Which::CountChar, vec![rows.clone(), text(of)], 4)?;
            Ok::<Vec<Option<i64>>, datafusion::common::DataFusionError>(
                counts.as_primitive::<Int64Type>().iter().collect(),
            )
        };
        assert_eq!(counts("a").unwrap(), [Some(3), Some(0), None, Some(1)]);
        assert_eq!(counts("ż").unwrap(), [Some(0), Some(0), None, Some(2)]);
        assert!(counts("an").unwrap_err().to_string().contains("'an'"));
        let each = texts(&[Some("b"), None, Some("x"), Some("a")]);
        let counts = call(Which::CountChar, vec![rows.clone(), each], 4).unwrap();
        assert_eq!(counts.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None, None, Some(1)]);
    }

    #[test]
    fn parts_are_counted_from_zero() {
        let rows = texts(&[Some("https://a.b/c//d"), Some("x"), Some(""), None]);
        let part = |delimiter: &str, n: i64| {
            let found = call(Which::SplitIndex, vec![rows.clone(), text(delimiter), number(n)], 4).unwrap();
            strings(&found).into_iter().map(|part| part.map(str::to_owned)).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(part("/", 0), [some("https:"), some("x"), None, None]);
        assert_eq!(part("/", 4), [some(""), None, None, None]);
        assert_eq!(part("/", 5), [some("d"), None, None, None]);
        assert_eq!(part("//", 1), [some("a.b/c"), None, None, None]);
        assert_eq!(part("", 0), [some("https://a.b/c//d"), some("x"), None, None]);
        assert_eq!(part("/", -1), [None, None, None, None]);
        assert_eq!(part("/", 6), [None, None, None, None]);
    }

    #[test]
    fn groups_of_the_first_match() {
        let rows = texts(&[Some("u?a=1&channel_id=77&channel_id=8"), Some("channel_id="), Some("u"), None]);
        let group = |regex: &str, n: i64| {
            let found = call(Which::RegexpExtract, vec![rows.clone(), text(regex), number(n)], 4)?;
            Ok::<_, datafusion::common::DataFusionError>(
                strings(&found).into_iter().map(|part| part.map(str::to_owned)).collect::<Vec<_>>(),
            )
        };
        let some = |text: &str| Some(text.to_owned());
        let regex = "(&|^)channel_id=([^&]*)";
        assert_eq!(group(regex, 2).unwrap(), [some("77"), some(""), None, None]);
        assert_eq!(group(regex, 0).unwrap(), [some("&channel_id=77"), some("channel_id="), None, None]);
        assert_eq!(group("(x)|(u)", 1).unwrap(), [None, None, None, None]);
        assert!(group(regex, 3).unwrap_err().to_string().contains("group 3"));
        assert!(group("(", 0).unwrap_err().to_string().contains("no regular expression"));
        let whole = call(Which::RegexpExtract, vec![rows.clone(), text("[0-9]+")], 4).unwrap();
        assert_eq!(strings(&whole), [Some("1"), None, None, None]);
    }

    proptest! {
        #[test]
        fn parts_joined_again_are_the_text(parts in prop::collection::vec("[a-c]{0,3}", 1..6)) {
            let whole = parts.join("/");
            prop_assume!(!whole.is_empty());
            for (n, wanted) in parts.iter().enumerate() {
                prop_assert_eq!(part(&whole, "/", n), Some(wanted.as_str()));
            }
            prop_assert_eq!(part(&whole, "/", parts.len()), None);
        }
    }
}
