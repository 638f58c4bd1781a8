//! `md5`, `sha1`, `sha256`, `sha384`, `sha512` and `sha2(x, bits)` of a text or of bytes, as hexadecimal text like Flink's,
//! and like Postgres' `md5`.

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use md5::Digest;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use std::sync::Arc;

pub(crate) fn digest_functions() -> [ScalarUDF; 6] {
    [Which::Md5, Which::Sha1, Which::Sha256, Which::Sha384, Which::Sha512, Which::Sha2].map(|which| {
        ScalarUDF::new_from_impl(DigestFunction { which, signature: Signature::user_defined(Volatility::Immutable) })
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    /// The second argument says which of the last three.
    Sha2,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DigestFunction {
    which: Which,
    signature: Signature,
}

impl ScalarUDFImpl for DigestFunction {
    fn name(&self) -> &str {
        match self.which {
            Which::Md5 => "md5",
            Which::Sha1 => "sha1",
            Which::Sha256 => "sha256",
            Which::Sha384 => "sha384",
            Which::Sha512 => "sha512",
            Which::Sha2 => "sha2",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        use DataType::{Binary, BinaryView, FixedSizeBinary, Int64, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
        let name = self.name();
        let of = match given.first() {
            Some(Utf8 | LargeUtf8 | Utf8View | Null) => Utf8,
            Some(Binary | LargeBinary | BinaryView | FixedSizeBinary(_)) => Binary,
            Some(other) => return plan_err!("{name} takes a VARCHAR or BYTES, not {other}"),
            None => return plan_err!("{name} takes a VARCHAR or BYTES"),
        };
        match (self.which, given) {
            (Which::Sha2, [_, bits]) if bits.is_integer() || bits.is_null() => Ok(vec![of, Int64]),
            (Which::Sha2, _) => plan_err!("sha2(x, bits) takes a VARCHAR or BYTES, and 256, 384 or 512"),
            (_, [_]) => Ok(vec![of]),
            _ => plan_err!("{name} takes one argument, not {}", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let n_rows = args.number_rows;
        let Some(of) = args.args.first() else { return exec_err!("{} of nothing", self.name()) };
        let of = of.to_array(n_rows)?;
        let answer: StringArray = match (self.which, args.args.get(1)) {
            (Which::Sha2, Some(bits)) => {
                let bits = bits.to_array(n_rows)?;
                let bits = bits.as_primitive::<Int64Type>();
                hashed(&of, |row, bytes, hex| match bits.is_valid(row).then(|| bits.value(row)) {
                    Some(256) => sha(&SHA256, bytes, hex),
                    Some(384) => sha(&SHA384, bytes, hex),
                    Some(512) => sha(&SHA512, bytes, hex),
                    Some(other) => exec_err!("sha2 has 256, 384 or 512 bits, not {other}"),
                    None => Ok(false),
                })?
            }
            (Which::Md5, _) => hashed(&of, |_, bytes, hex| {
                write_hex(&md5::Md5::digest(bytes), hex);
                Ok(true)
            })?,
            (Which::Sha1, _) => hashed(&of, |_, bytes, hex| sha(&SHA1_FOR_LEGACY_USE_ONLY, bytes, hex))?,
            (Which::Sha256, _) => hashed(&of, |_, bytes, hex| sha(&SHA256, bytes, hex))?,
            (Which::Sha384, _) => hashed(&of, |_, bytes, hex| sha(&SHA384, bytes, hex))?,
            (Which::Sha512 | Which::Sha2, _) => hashed(&of, |_, bytes, hex| sha(&SHA512, bytes, hex))?,
        };
        Ok(ColumnarValue::Array(Arc::new(answer)))
    }
}

/// `hash` writes the digest of a row's bytes, and says whether there is one.
fn hashed(of: &ArrayRef, mut hash: impl FnMut(usize, &[u8], &mut String) -> Result<bool>) -> Result<StringArray> {
    let mut answers = StringBuilder::with_capacity(of.len(), of.len() * 64);
    let mut hex = String::with_capacity(128);
    let mut push = |row: usize, bytes: Option<&[u8]>| {
        hex.clear();
        let there = bytes.map(|bytes| hash(row, bytes, &mut hex)).transpose()?;
        answers.append_option((there == Some(true)).then_some(&hex));
        Ok::<_, datafusion::common::DataFusionError>(())
    };
    match of.data_type() {
        DataType::Binary => of.as_binary::<i32>().iter().enumerate().try_for_each(|(row, bytes)| push(row, bytes))?,
        _ => {
            let texts = of.as_string::<i32>().iter().enumerate();
            texts.into_iter().try_for_each(|(row, text)| push(row, text.map(str::as_bytes)))?;
        }
    }
    Ok(answers.finish())
}

fn sha(algorithm: &'static Algorithm, bytes: &[u8], hex: &mut String) -> Result<bool> {
    write_hex(digest(algorithm, bytes).as_ref(), hex);
    Ok(true)
}

fn write_hex(bytes: &[u8], hex: &mut String) {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().for_each(|byte| hex.extend([digit(byte >> 4), digit(byte & 15)]));
}
